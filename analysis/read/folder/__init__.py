"""A folder of anybody's runs: one reader a file format, each in a file of its own.

recorded       what a file says of a run
formats        which formats there are; a new one is a file here and a line there
settings       hyperparameters: config files beside a run, patterns on names, contradictions
found          which files are runs, of which format
read           the folder as the frames (trials, curves)
"""
