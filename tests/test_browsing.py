"""What people see of a study in MLflow's pages and in its report, looked at by a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.browser import mlflow_server, needs_browser, open_browser
from tests.command_line import analysis, sweeps

pytestmark = [pytest.mark.long, needs_browser()]
HOSTILE = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>"
SWEEP = (
    *("-m", "task=colourization", "optimizer=adam", "study.name=seen", "data.side=16"),
    *("model.num_filters=4", "evaluation.ratio=1.1", "relative_targets=[]", "picture_ratio=4"),
    *("batch_size=8,16,32", "lr=0.005,0.02", "seed=0,1", "targets=[3.0]", "budget.max_steps=40"),
    *("data.held_out_images=100", "save_models=true", "checkpoint.interval_seconds=null"),
)
TRIAL = re.compile(r"^B=(8|16|32) lr=0\.(005|02) seed=[01]$")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that has a small study with pictures, and its report."""
    folder = tmp_path_factory.mktemp("seen")
    question = f"study.question='how large? {HOSTILE.replace(chr(39), '')}'"
    done = sweeps(*SWEEP, question, f"cache_dir={folder}/cache", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = analysis("study=seen", "n_bootstrap=20", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "pages.txt").write_text(done.stdout)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    other = client.create_experiment(HOSTILE, (folder / "mlartifacts" / "other").as_uri())
    for size in (4, 8, 16):
        run = client.create_run(other, run_name=f"{HOSTILE} {size}")
        client.log_param(run.info.run_id, "batch_size", size)
        client.log_param(run.info.run_id, "lr", 0.1)
        client.log_param(run.info.run_id, "model", HOSTILE if size > 4 else "plain")
        client.set_tag(run.info.run_id, "mlflow.note.content", f"# {HOSTILE}")
        for step in range(1, 6):
            client.log_metric(run.info.run_id, "loss", 1 / (step * size), step=step)
        client.set_terminated(run.info.run_id)
    return folder


@pytest.fixture(scope="module")
def served(study: Path) -> Iterator[str]:
    with mlflow_server(f"sqlite:///{study}/mlflow.db", study) as address:
        yield address


@pytest.fixture
def page(tmp_path: Path) -> Iterator:
    with open_browser(tmp_path / "profile") as opened:
        yield opened


def address(study: Path, served: str, name: str) -> str:
    """The address of a page as the report's command printed it, on the server of the tests."""
    lines = (study / "pages.txt").read_text().splitlines()
    [found] = [line for line in lines if line.startswith(f"  {name}:")]
    return found.partition(":")[2].strip().replace("http://127.0.0.1:5000", served)


def test_the_table_shows_the_trials_with_their_params(study: Path, served: str, page) -> None:
    page.set_viewport_size({"width": 2200, "height": 1000})
    page.goto(address(study, served, "trials"))
    page.get_by_text(TRIAL).first.wait_for()
    assert page.get_by_text(TRIAL).count() == 12
    for column in ("batch_size", "lr", "seed", "loss", "outcome"):
        page.get_by_role("columnheader").get_by_text(column, exact=True).first.wait_for()
    cells = page.locator("[col-id='params.`batch_size`'][role='gridcell']").all_inner_texts()
    assert sorted(cells) == sorted(["8", "16", "32"] * 4)
    page.get_by_text("how large? <script>").first.wait_for()
    _shows_no_markup(page)


def _shows_no_markup(page) -> None:
    assert page.locator("img[src='x']").count() == 0
    assert not page.evaluate("'owned' in window")


def test_a_chart_draws_a_line_for_each_setting(study: Path, served: str, page) -> None:
    for name, axis in (("loss vs steps", "Step"), ("loss vs examples", "examples")):
        page.goto(address(study, served, name))
        page.reload()  # only what comes after the # has changed
        chart = page.locator(".js-plotly-plot").first
        chart.locator("path.js-line").first.wait_for(state="attached")
        page.wait_for_function(
            "document.querySelector('.js-plotly-plot').querySelectorAll('path.js-line').length >= 6"
        )  # 3 batch sizes x 2 lrs, the seeds averaged
        assert axis in chart.inner_text()
        assert "B=8 lr=0.005 (loss)" in page.locator("body").inner_text()


def test_the_frontier_is_a_chart(study: Path, served: str, page) -> None:
    page.goto(address(study, served, "frontier"))
    page.get_by_text("frontier/steps_by_batch_size", exact=True).first.wait_for()
    page.locator(".js-plotly-plot path.js-line").first.wait_for(state="attached")
    page.get_by_text("frontier, loss 3", exact=True).first.wait_for()


def test_the_image_slider_moves(study: Path, served: str, page) -> None:
    trials = address(study, served, "trials")
    page.goto(trials.replace("runs?", "runs?compareRunsMode=CHART&"))
    slider = page.get_by_role("slider").first
    slider.scroll_into_view_if_needed()
    pictures = page.locator("img[src*='get-artifact']")
    pictures.first.wait_for()
    before = (slider.get_attribute("aria-valuenow"), pictures.first.get_attribute("src"))
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => [...document.images].some(i => i.src.includes('get-artifact') && i.complete"
        " && i.naturalWidth > 10 && !i.src.endsWith(before))",
        arg=before[1],
    )
    after = (slider.get_attribute("aria-valuenow"), pictures.first.get_attribute("src"))
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_report_and_its_note_display(study: Path, served: str, page) -> None:
    report = address(study, served, "report")
    page.goto(report)
    frame = page.frame_locator("iframe").first
    frame.get_by_text("Batch-size report").wait_for()
    assert frame.locator("figure svg").first.bounding_box()["width"] > 100
    run = re.sub(r"/artifacts/.*", "", report)
    page.goto(f"{run}?workflowType=machine_learning")
    page.reload()
    page.get_by_text("sweep of 12 trials").first.wait_for()
    page.get_by_text("how large?").first.wait_for()
    more = page.get_by_text("Show more").first
    more.click()
    page.get_by_role("link", name="The whole report").wait_for()
    body = page.locator("body").inner_text()
    assert "python -m sweeps -m task=colourization" in body
    assert "how large? <script>window.owned = 1</script><img src=x" in body
    _shows_no_markup(page)


def test_names_are_shown_as_text(study: Path, served: str, page) -> None:
    experiment = MlflowClient(f"sqlite:///{study}/mlflow.db").get_experiment_by_name(HOSTILE)
    assert experiment is not None
    page.goto(
        f"{served}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    )
    page.get_by_text(f"{HOSTILE} 16").first.wait_for()
    assert not page.evaluate("'owned' in window")


def test_a_report_shows_names_as_text(study: Path, page) -> None:
    quoted = HOSTILE.replace("'", r"\'")
    done = analysis(
        *(f"source.experiment='{quoted}'", "targets=[0.05]", "n_bootstrap=10", "group_by=[model]"),
        cwd=study,
    )
    assert done.returncode == 0, done.stderr
    [report] = [line for line in done.stdout.splitlines() if line.startswith("report: ")]
    path = Path(report.removeprefix("report: "))
    assert path.parent.parent == study / "reports"
    page.goto(path.as_uri())
    assert HOSTILE in page.locator("h1").inner_text()
    page.wait_for_timeout(500)
    assert not page.evaluate("'owned' in window")
    assert "<script" not in path.read_text()
