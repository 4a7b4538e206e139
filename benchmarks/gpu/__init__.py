"""The model against the hardware: `python -m benchmarks.gpu --help`.

    bench.py       what a part is given: device, sizes, deadline; how a call is timed
    works.py       what is timed: attention calls, training steps, models and their data
    flops.py       floating-point operations, counted
    hardware.py    what it ran on
    goals.py year.py kernels.py throughput.py recompute.py chapter.py feasibility.py growth.py
                   the parts
    kernels_table.py   the table that `auto` goes by, out of a result
    tables.py      results as Markdown, for the terminal and the documents alike
    plots.py       results as pictures
    suite.py       runs parts and writes what they found

Needs torch, numpy, pyarrow and matplotlib, no Dagster. A part that cannot run a row says so in
that row. Every part is a function of a `Bench`, so the CPU version is the same code at other sizes.
"""
