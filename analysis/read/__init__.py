"""Anybody's runs in; `trials` (a row a trial) and `curves` (a row an evaluation), or steps, out.

To add a file format, write a reader `path -> frame` as in parquet_files.py, and name its suffix in
files.FORMATS. To add another tracker, return the two frames through trials.complete_trials, which
fills in what was not recorded, as experiments.py does, and name its kind in analysis/source.py.
Column names are mapped in names.py, cells are checked in tables.py and values.py, and whatever a
user can get wrong is an AnalysisError of one line.
"""
