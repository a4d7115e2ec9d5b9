"""What a trial is and how it trains.

Axes, named once and used in every docstring:

    R   trials of a stack, always the first axis
    B   examples of a batch
    D   inputs (weights of the linear model)
    T   steps or evaluations
    G   distinct data streams of a stack (one per seed)
"""
