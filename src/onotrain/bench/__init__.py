"""What ``onotrain bench`` measures: kernels, steps, collectives, prediction, files; one module each, with a `run`.

They use what training and prediction use, on random data, and return JSON-able results on rank 0.
"""
