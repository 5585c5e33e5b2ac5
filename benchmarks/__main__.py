"""`python -m benchmarks`: every table, one after the other."""

from benchmarks import compiled, eager, functions, graph, models, recurrences, threads

# The threads first: the others stay on one core.
for benchmark in (threads, eager, graph, compiled, recurrences, functions, models):
    print(f"## {benchmark.__name__.rpartition('.')[2]}\n")
    benchmark.main()
    print()
