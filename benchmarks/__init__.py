"""Benchmarks of flash_pipeline: each writes its results, with hardware and versions, as JSON.

- `python -m benchmarks.gpu`: attention, training and inference on a GPU (`make bench-gpu`)
- `python -m benchmarks.cpu`: the same themes at small sizes, on any machine (`make bench-cpu`)
- `python -m benchmarks.windows`: window tensors against the one-row-per-window layout
- `python -m benchmarks.report`: tables and plots of the stored results, into the documents
- `python -m benchmarks.leak_demo`: shuffled folds against a walk-forward (`make leak-demo`)
- `python -m benchmarks.walkforward`: a recipe and the baselines walked through a history
- `python benchmarks/chain.py`: the steps of the whole chain (`make bench`)
"""
