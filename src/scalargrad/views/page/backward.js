// The backward pass, one number after the other, as the engine does it: from the last result to the
// first, every operand's gradient grows by the derivative with respect to it times the gradient.

function stepsOf(graph) {
  return graph.count - graph.leaves;
}

// The number whose turn is the k-th, from 1 on.
function numberAt(graph, k) {
  return graph.count - k;
}

function stepOf(graph, v) {
  return v >= graph.leaves ? graph.count - v : 0;
}

// What an operand receives when g has arrived at the result. A gradient of 0 passes nothing on,
// nor does a derivative of 0, so that 0 * inf is 0; but products are plain arithmetic.
function passed(graph, e, g) {
  const partial = graph.partials[e];
  if (g === 0 || (partial === 0 && !graph.table.get(graph.op[graph.userOf[e]]).plain)) return 0;
  return partial * g;
}

// All gradients after k steps of one backward(), from gradients of 0.
function gradientsAfter(graph, k) {
  const { first, operands, leaves, count } = graph;
  const grad = new Float64Array(count);
  grad[graph.root] = 1;
  for (let v = count - 1; v >= Math.max(leaves, count - k); v--) {
    const g = grad[v];
    if (g === 0) continue;
    for (let e = first[v]; e < first[v + 1]; e++) grad[operands[e]] += passed(graph, e, g);
  }
  return grad;
}
