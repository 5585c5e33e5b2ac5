"""`python -m benchmarks`: every table, one after the other."""

from benchmarks import compiled, eager, graph

for benchmark in (eager, graph, compiled):
    print(f"## {benchmark.__name__.rpartition('.')[2]}\n")
    benchmark.main()
    print()
