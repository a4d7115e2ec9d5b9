"""What people get wrong on the command line: one line that names it and what to do, exit code 2,
within seconds, and nothing is created."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import sweeps
from tests.sweeps.in_process import command

NEEDS_M = "several values make a multirun; add -m"
SHORT = ("task.dimension=4", "budget.max_steps=3", "tracking.uri=none")
MISTAKES = {  # a line, and how what is said begins
    # names
    "batchsize=64": "batchsize=64: there is no option batchsize; did you mean batch_size?",
    "batch-size=64": "batch-size=64: there is no option batch-size; did you mean batch_size?",
    "learning_rate=1": "learning_rate=1: there is no option learning_rate; did you mean lr?",
    "warmup_steps=9": "warmup_steps=9: there is no option warmup_steps; did you mean schedule.warm",
    "budget.max_step=9": "budget.max_step=9: there is no option budget.max_step; did you mean budg",
    "hydra.sweep.dirr=x": "hydra.sweep.dirr=x: there is no option hydra.sweep.dirr; did you mean h",
    "+batch_sise=3": "batch_sise=3: there is no option batch_sise; did you mean batch_size?",
    "+budget.steps=3": "budget.steps=3: there is no option budget.steps; did y",
    "-m batchsize=1,4": "batchsize=1: there is no option batchsize; did you mean batch_size?",
    "-m hydra.launcher.worker=2": "hydra.launcher.worker=2: hydra/launcher=stacked has no worker; "
    "did you mean hydra.launcher.workers?",
    "-m hydra.sweeper.lr_range=[1,2]": "hydra.sweeper.lr_range=[1,2]: hydra/sweeper=grid has no lr"
    "_range; choose hydra/sweeper=frontier",
    "study=linear_regresion": "study=linear_regresion: no such study; did you mean linear_regress",
    "study=chess": "study=chess: no such study; there are colourization, ",
    "-m study=linear_regresion,scratch": "study=linear_regresion: no such study; did you mean lin",
    "optimizer=Adam": "optimizer=Adam: no such optimizer; did you mean adam?",
    "-m optimizer=sgd,Adam": "optimizer=Adam: no such optimizer; did you mean adam?",
    "task=Linear_regression": "task=Linear_regression: no such task; did you mean linear_regressi",
    "-m hydra/launcher=slurm": "hydra/launcher=slurm: no such launcher; there are basic, stacked",
    "-m hydra/sweeper=optuna": "hydra/sweeper=optuna: no such sweeper; there are basic, frontier",
    "optimizer.momentum=0.9": "optimizer.momentum=0.9: optimizer=sgd has no momentum; choose optim",
    "task.data_examples=9": "task.data_examples=9: task=linear_regression has no data_examples; ch",
    "optimizer.name=adam": "optimizer.name=adam: choose the group instead: optimizer=adam",
    "task.name=custom": "task.name=custom: choose the group instead: task=custom",
    "lr@x=3": "Override lr@x=3 looks like a config group override, but config group 'lr' does not",
    # what is not a name
    "study=true": "study=true: is not the name of a file in conf/study",
    "optimizer=nan": "optimizer=nan: is not the name of a file in conf/optimizer",
    "optimizer=null": "optimizer=null: is not the name of a file in conf/optimizer",
    "-m optimizer=sgd,1": "optimizer=sgd,1: is not the name of a file in conf/optimizer",
    "-m task=[a]": "task=[a]: is not the name of a file in conf/task",
    "-m optimizer={a:b}": "optimizer={a:b}: is not the name of a file in conf/optimizer",
    "-m optimizer=glob(zzz)": "optimizer=glob(zzz): the list of values is empty; give at least one",
    "~task": "~task: cannot be left out; choose another with task=..",
    "-m ~optimizer": "~optimizer: cannot be left out; choose another with optimizer=..",
    "~lr": "~lr: cannot be left out; give it another value",
    "~nothing": "~nothing: there is nothing with this name to remove",
    # multiruns without -m
    "batch_size=1,4": f"batch_size=1,4: {NEEDS_M}",
    "seed=range(0,4)": f"seed=range(0,4): {NEEDS_M}",
    "hydra/sweeper=frontier": "hydra/sweeper=frontier: is for multiruns; add -m",
    "hydra.launcher.workers=2": "hydra.launcher.workers=2: is for multiruns; add -m",
    "study=linear_regression": "study=linear_regression: sweeps batch_size, seed; add -m, or give",
    "study=linear_regression batch_size=8 seed=0": "study=linear_regression: searches lr; add -m",
    "sweep.probe=true": "sweep.probe=true: is for multiruns: add -m",
    # what cannot be read
    "-m batch_size=8 16": "16: is not key=value; several values are separated by commas: batch_siz",
    "-m seed=range(0,4": "seed=range(0,4: the brackets ( and ) do not match",
    "targets=[0.5": "targets=[0.5: the brackets [ and ] do not match",
    "study.question='why": "study.question='why: a quotation mark is not closed",
    "lr": "lr: is not key=value",
    "lr=0.1)": "lr=0.1): the brackets ( and ) do not match",
    # grids
    "-m batch_size=range(0,3,0)": "batch_size=range(0,3,0): has no end: give range(start,stop,ste",
    "-m lr=range(0,1,0.0)": "lr=range(0,1,0.0): has no end: give range(start,stop,step)",
    "-m lr=interval(0,1)": "lr=interval(0,1): has infinitely many values; give a list or range(st",
    "-m seed=range(0,1e9)": "seed=range(0,1e9): makes this a sweep of 1,000,000,000 jobs, and at m",
    "-m seed=range(0,99999) batch_size=range(1,99)": "seed=range(0,99999): makes this a sweep of",
    "-m seed=range(0,0)": "seed=range(0,0): the list of values is empty; give at least one",
    "-m hydra.sweeper.max_batch_size=0": "hydra.sweeper.max_batch_size=0: must be at least 1",
    "-m hydra/sweeper=frontier lr=1,2": "lr=1,2: hydra/sweeper=frontier chooses lr: give one value",
    "-m hydra/sweeper=frontier batch_size=interval(1,2)": "batch_size=interval(1,2): has infinite",
    # values
    "lr=abc": "lr=abc: must be a number",
    "-m lr=0.1,abc": "lr=abc: must be a number",
    "batch_size=1.5": "batch_size=1.5: must be a whole number",
    "seed=": "seed=: must be a whole number",
    "save_models=perhaps": "save_models=perhaps: must be true or false|save_models=perhaps: Value ",
    "targets=abc": "targets=abc: must be a list, targets=[..]",
    "evaluation=3": "evaluation=3: is a group of options, not one value; evaluation.<option>=..",
    "record_dir=null": "record_dir=null: must not be null",
    "lr=0": "lr=0.0: must be a finite number > 0",
    "lr=nan": "lr=nan: must be a finite number > 0",
    "-m lr=0.1,-1": "lr=-1.0: must be a finite number > 0",
    "batch_size=0": "batch_size=0: must be a whole number >= 1",
    "device=gpu": "device=gpu: must be one of auto, cpu, cuda",
    "schedule.name=stairs": "schedule.name=stairs: must be one of constant, warmup, cosine, linear",
    "schedule.name=linear": "schedule.total_steps=0: schedule.name=linear requires schedule.tot",
    "schedule=linear schedule.total_steps=9": "schedule.total_fraction=1.0: schedule.total_st",
    "schedule=wsd schedule.decay_examples=ten": "schedule.decay_examples=ten: must be a whole num",
    "schedule=cosine schedule.warmup_steps=9 schedule.total_steps=5": "schedule.warmup_steps=9: m"
    "ust be below schedule.total_steps=5",
    "targets=[-1]": "targets=-1: the target loss -1 must lie below the initial loss",
    "targets=99": "targets=99: the target loss 99 must lie below the initial loss",
    "study.name=../x": "study.name=../x: letters, digits",
    "-m study.name=a,b": "study.name=a,b: must be the same for all trials; run a sweep for each",
    "-m study=linear_regression_grid,scratch lr=1 seed=0": "study.name=linear_regression_grid,scra",
    "-m hydra.launcher.workers=many": "hydra.launcher.workers=many: must be auto (one a core) or a",
    "-m hydra/sweeper=frontier hydra.launcher.workers=x": "hydra.launcher.workers=x: must be auto",
    "-m hydra.launcher.workers=-1": "hydra.launcher.workers=-1: must be auto (one a core) or a",
    "-m hydra.launcher.stack_size=0": "hydra.launcher.stack_size=0: must be at least 1",
    "-m hydra.launcher.retries=-1": "hydra.launcher.retries=-1: must be at least 0",
    "-m hydra.launcher.trial_timeout_seconds=0": "hydra.launcher.trial_timeout_seconds=0.0: must ",
    "checkpoint.interval_seconds=-1": "checkpoint.interval_seconds=-1.0: must be a finite number",
    "precision=bf16": "precision=bf16: linear_regression trains in float32 or float64",
    "task.spectrum_exponent=-300": "task.spectrum_exponent=-300.0: must be",
    "study.report=all": "study.report=all: must be one of batch_sizes, losses",
    "task=custom": "task.path=???: must be module.Class; the module must be in the working",
    "task=custom task.path=nope.Nope": "task.path=nope.Nope: raised ModuleNotFoundError",
    "optimizer=custom optimizer.path=torch.optim.Nope": "optimizer.path=torch.optim.Nope: has no",
    "-m study=minimum_norm task=colourization": "task=colourization: study=minimum_norm requires",
    # what refers to something
    "lr=${oc.env:NOPE}": "lr: the environment variable NOPE is not set; set it, or leave it out",
    "-m lr=${oc.env:NOPE}": "lr: the environment variable NOPE is not set; set it, or leave it out",
    "lr=${nope}": "lr: refers to ${nope}, which does not exist",
    "schedule=cosine schedule.total_steps=${budget.max_steps} budget.max_steps=null": "schedule.to"
    "tal_steps=${budget.max_steps}: refers to null; it must be a whole number",
    "-m hydra.sweep.dir=${hydra:job.nope}": "hydra.sweep.dir=${hydra:job.nope}: refers to null; it",
    "-m hydra.sweep.dir=${oc.env:NOPE}": "hydra.sweep.dir: the environment variable NOPE is not se",
    "-m hydra.sweep.subdir=${hydra.nope}": "hydra.sweep.subdir: refers to ${hydra.nope}, which doe",
    "+hydra.callbacks.x._target_=nope.Nope": "hydra.callbacks.x._target_=nope.Nope: cannot be impo",
    # folders
    "record_dir=/proc/x": "record_dir=/proc/x: cannot be used (No such file",
    f"record_dir={'x' * 300}": f"record_dir={'x' * 60}..: a name has at most 255 bytes",
    f"record_dir={'x/' * 3000}": "record_dir=x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/",
    "hydra.run.dir=/proc/x": "hydra.run.dir=/proc/x: cannot be used (No such file",
    "hydra.output_subdir=../x": "hydra.output_subdir=../x: must be a folder inside",
    "-m record_dir=/proc/x hydra.sweep.dir=s": "record_dir=/proc/x: cannot be used (No such file",
    "-m hydra.sweep.dir=/proc/x/y": "hydra.sweep.dir=/proc/x/y: cannot be used (No such file",
    "tracking.uri=nonsense://x": "tracking.uri=nonsense://x: is not an address of",
    "-m tracking.uri=nonsense://x": "tracking.uri=nonsense://x: is not an address of",
    "tracking.uri=sqlite:////dev/null/m.db": "tracking.uri=sqlite:////dev/null/m.db: no file can b",
    # options
    "-m --info": "-m --info: only one of these at a time",
    "--resolve": "--resolve: goes with --cfg",
    "--multirn": "--multirn: there is no such option; did you mean --multirun?",
    "--config-dir nope": "--config-dir=nope: there is no such folder",
    "--config-name nope": "Cannot find primary config 'nope'",
    "-m hydra.mode=RUN": "hydra.mode=RUN: contradicts -m; leave one of them out",
    "--experimental-rerun x.pickle": "--experimental-rerun: use python -m sweeps.repeat",
}  # fmt: skip


def is_one_line(done, begins: str) -> None:
    assert done.code == 2, done.stderr
    assert done.lines == 1, done.stderr
    assert any(done.stderr.startswith(f"error: {one}") for one in begins.split("|")), done.stderr
    assert not done.created
    assert done.seconds < 15


@pytest.mark.parametrize("line", MISTAKES, ids=[line[:60] for line in MISTAKES])
def test_a_mistake_is_one_line(line: str, tmp_path: Path) -> None:
    is_one_line(command(line.split(" "), tmp_path), MISTAKES[line])


TAKEN = {  # as it is meant, and what the dry run then says
    "lr=1 -m seed=1,2 sweep.dry_run=true": "        2 trials",
    "targets=0.5 sweep.dry_run=true": "        1 trials",
    "-m targets=0.5,0.3 batch_size=1,2 sweep.dry_run=true": "        2 trials",
    "hydra.mode=MULTIRUN lr=1,2 sweep.dry_run=true": "        2 trials",
    "-m hydra.sweep.dir=${hydra:job.name} lr=1,2 sweep.dry_run=true": "        2 trials",
    "-m optimizer=glob(momentum*) sweep.dry_run=true": "        2 trials",
    "study=linear_regression batch_size=8 seed=0 lr=0.1 sweep.dry_run=true": "        1 trials",
}


@pytest.mark.parametrize("line", TAKEN)
def test_what_can_be_meant_in_one_way_only_is_taken(line: str, tmp_path: Path) -> None:
    done = command(line.split(" "), tmp_path)
    assert (done.code, done.stderr, done.created) == (0, "", ())
    assert TAKEN[line] in done.stdout


def test_options_of_a_task_of_ones_own_need_no_plus(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CUSTOM)
    line = ["task=custom", "task.path=mine.Mine", "relative_targets=[0.9]", "sweep.dry_run=true"]
    done = command([*line, "task.options.width=5"], tmp_path)
    assert done.code == 0, done.stderr
    done = command(["-m", *line, "task.options.width=5,6"], tmp_path)
    assert done.code == 0, done.stderr
    assert "2 trials" in done.stdout


CUSTOM = """
import numpy as np
from torch import nn
class Mine:
    def __init__(self, width=2):
        self.train = (np.ones((8, 3), "float32"), np.arange(8.0, dtype="float32"))
        self.held_out = self.train
        self.model_size = self.width = width
    def model(self):
        return nn.Sequential(nn.Linear(3, self.width), nn.Linear(self.width, 1))
    def loss(self, outputs, labels):
        return ((outputs[:, 0] - labels) ** 2).mean()
"""


def bomb(levels: int) -> str:
    lines = ["# @package _global_", "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (bomb(9), "study/mine.yaml: its aliases expand to "),
        ("a: &a [*a]", "study/mine.yaml: "),
        ("a: [", "study/mine.yaml: "),
        ("# @package _global_\nlr: ${oc.env:NOPE}", "lr: the environment variable NOPE is not set"),
        ("# @package _global_\nlearning_rate: 1", "study/mine.yaml: learning_rate: there is no"),
        ("# @package _global_\nlr: fast", "study/mine.yaml: lr: must be a number"),
        ("- 1", ""),
        ("# @package _global_\ndefaults: [override /optimizer: Adam]", "optimizer"),
        ("# @package _global_\nhydra: {sweeper: {params: {seed: 'range(0,1e9)'}}}", "seed=range("),
        ("# @package _global_\nhydra: {sweeper: {params: {sede: '0,1'}}}", "sede=0: there"),
        ("# @package _global_\nhydra: {sweeper: {params: {seed: 'range(0'}}}", "seed=range(0: "),
        ("# @package _global_\nhydra: {sweep: {dir: '${oc.env:NOPE}'}}", "hydra.sweep.dir: the"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("multirun", [True, False])
def test_a_study_file_of_ones_own(content: str, says: str, multirun: bool, tmp_path: Path) -> None:
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "mine.yaml").write_text(content)
    words = [
        "--config-dir",
        "conf",
        *(["-m"] if multirun else []),
        "study=mine",
        "sweep.dry_run=true",
    ]
    if not multirun and ("range" in content or "sede" in content or "dir:" in content):
        pytest.skip("of the sweep only")
    done = command(words, tmp_path)
    assert (done.code, done.lines, done.created) == (2, 1, ()), done.stderr
    assert says in done.stderr


def test_a_study_that_is_on_record_is_no_file(tmp_path: Path) -> None:
    made = ["-m", "lr=0.1,0.2", "batch_size=2", "study.name=found", *SHORT]
    assert command(made, tmp_path).code == 0
    done = command(["-m", "study=found"], tmp_path)
    is_one_line(
        done, "study=found: is not a file of conf/study but a study on record; resume it with: "
    )
    assert done.stderr.strip().endswith(f"python -m sweeps -m {' '.join(made[1:])}")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "scratch"),
        (["task=finite_regression"], "scratch_finite_regression"),
        (["task=custom", "task.path=digits.Digits"], "scratch_digits.Digits"),
        (["task=custom", "task.path='a/b c'"], "scratch_a_b_c"),
        (["task=custom", "task.path=digits.Digits", "study.name=mine"], "mine"),
        (["study=weight_decay"], "weight_decay"),
    ],
)
def test_nameless_trials_of_each_task_are_apart(
    words: list[str], name: str, tmp_path: Path
) -> None:
    done = command(["--cfg", "job", "--resolve", *words], tmp_path)
    assert f"record_dir: runs/{name}\n" in done.stdout


REAL = ["batchsize=64", "-m seed=range(0,4", "--multirn", "optimizer=nan", "lr=${oc.env:NOPE}"]


@pytest.mark.parametrize("line", REAL)
def test_through_a_process(line: str, tmp_path: Path) -> None:
    done = sweeps(*line.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {MISTAKES[line]}")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
