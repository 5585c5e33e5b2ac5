"""`python -m benchmarks`: every table, one after the other."""

from benchmarks import eager

for benchmark in (eager,):
    print(f"## {benchmark.__name__.rpartition('.')[2]}\n")
    benchmark.main()
    print()
