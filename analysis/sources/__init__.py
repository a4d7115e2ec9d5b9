"""Anybody's runs: curves and tables of steps in files, experiments of other projects in MLflow."""
