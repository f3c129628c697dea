"""The factorial of chapter 6: its text, its cells, and runners that are killed and merged."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import Executor, Future

import numpy as np
import pytest
import torch
from oracles import processes
from places import ROOT

from book.experiments.common.store import read, write_json
from book.experiments.one_model import __main__ as runners
from book.experiments.one_model import cells as factorial
from book.experiments.one_model.__main__ import main, verdict
from book.experiments.one_model.cells import SCALES, Job, cells, do, jobs, model_of
from book.experiments.one_model.runner import effects, merged, run
from book.experiments.one_model.text import STRETCH, tokens
from genopt_core import corpora, files
from genopt_core.torch.model import load_model, training
from genopt_core.torch.model.training import token_nats

torch.set_num_threads(1)
PATTERN = "*.harmonic.*.default,bpe.rope.dense.default"
JOBS = tuple(jobs("tiny", PATTERN, 1, ("tokens",)))
SAME = ("cell", "seed", "budget", "made_from", "bytes_read", "last_loss", "scores")


def table(folder):
    return [{name: row[name] for name in SAME} for row in merged([folder], "tiny")]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """All jobs done one by one in this process: what every runner has to come to."""
    folder = tmp_path_factory.mktemp("here")
    for job in JOBS:
        do(job, folder)
    return folder


@pytest.fixture(scope="module")
def preloaded():
    """Further processes start with torch, which takes 5 CPU seconds to load."""
    processes.load_too("book.experiments.one_model.cells")


@pytest.fixture
def folder(here, tmp_path):
    """A folder with the texts and without a result."""
    shutil.copytree(here / "texts", tmp_path / "texts")
    return tmp_path


@pytest.fixture(scope="module", params=["bpe", "swe"])
def text(request, here):
    return tokens("moby-dick", request.param, 400, 0.05, here / "texts")


# ------------------------------------------------------------------ text and cells


def test_both_tokenizers_read_the_same_bytes_in_the_same_order(here):
    two = [tokens("moby-dick", name, 400, 0.05, here / "texts") for name in ("bpe", "swe")]
    content = corpora.load("moby-dick")
    for part, whole in (("train", 0.95), ("held", 0.05)):
        sizes = {int(t.lengths[getattr(t, part)].sum()) for t in two}
        assert len(sizes) == 1
        assert sizes.pop() == pytest.approx(0.05 * whole * len(content.encode()), rel=0.01)
    for seed in (0, 1):
        firsts = []
        for t in two:
            order = np.random.default_rng(seed).permutation(len(t.stretches()))
            first = t.lengths[t.stretches()[order[0]]].sum()
            assert abs(first - STRETCH) < 40 or order[0] == len(order) - 1
            firsts.append(order)
        assert np.array_equal(*firsts)
    counts = [int(t.lengths[t.stream(3, size=9000).numpy()].sum()) for t in two]
    assert np.ptp(counts) < 40 * 5


def test_a_stream_has_what_was_asked_for(text):
    assert len(text.stream(0, tokens=1000)) == 1000
    assert len(text.stream(0, tokens=100_000)) == 100_000  # more than there is: again, reordered
    assert torch.equal(text.stream(0, tokens=50), text.stream(0, tokens=5000)[:50])
    assert not torch.equal(text.stream(0, tokens=50), text.stream(1, tokens=50))
    assert sorted(np.concatenate(text.stretches())) == sorted(text.train)


def test_the_same_tokens_are_scored_at_every_context(text):
    longest, found = 128, []
    for context in (64, 128):
        windows, scored = text.windows(context, longest, 5, 32)
        assert windows.shape == (5, context + 1)
        sizes = (text.lengths[windows[:, 1:].numpy()] * scored.numpy()).sum(1)
        assert (abs(sizes - 32) < 16).all()
        found.append([row[1:][mask].tolist() for row, mask in zip(windows, scored, strict=True)])
    assert found[0] == found[1]


def test_cells_are_all_combinations_and_are_picked_by_patterns():
    assert len(cells()) == len(set(cells())) == 16
    assert cells("swe.*.dense.default") == ["swe.rope.dense.default", "swe.harmonic.dense.default"]
    assert len(cells("swe.*,*.found")) == 12
    with pytest.raises(ValueError, match=r"cells must match some of .*, got 'gpt\.\*'"):
        cells("swe.*,gpt.*")
    for job, message in (
        (("huge", cells()[0], "tokens", 0), "scale must be one of"),
        (("tiny", "bpe", "tokens", 0), "cell must be one of"),
        (("tiny", cells()[0], "hours", 0), "budget must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            Job(*job)


def test_a_switch_changes_its_part_of_the_model_alone():
    base = model_of(Job("small", "bpe.rope.dense.default", "tokens", 0))
    other = model_of(Job("small", "bpe.harmonic.blocks.default", "tokens", 0))
    changed = {k for k, v in other.to_json().items() if base.to_json()[k] != v}
    assert changed == {"positions", "slopes", "learned", "density"}
    assert base == SCALES["small"].model


def test_settings_that_nobody_has_found_are_refused_by_name(folder, monkeypatch, tmp_path):
    job = Job("tiny", "bpe.rope.dense.found", "tokens", 0)
    monkeypatch.setattr(factorial, "FOUND", tmp_path / "search.json")
    with pytest.raises(FileNotFoundError, match=r"settings 'found' need search\.json"):
        do(job, folder)
    write_json(tmp_path / "search.json", {"found": {"rate": 0.01}})
    assert do(job, folder)["run"]["rate"] == 0.01


# ------------------------------------------------------------------ results


def test_a_result_is_scored_again_from_its_model(here, text):
    for row in merged([here], "tiny"):
        if row["run"]["tokenizer"] != text.digest:
            continue
        job = Job("tiny", row["cell"], row["budget"], row["seed"])
        model = load_model(job.result(here).with_suffix(".safetensors"), text.digest)
        again = factorial.scores(model, text, SCALES["tiny"], "cpu")
        for old, new in zip(row["scores"], again, strict=True):
            assert new["full"] == pytest.approx(old["full"], abs=2e-3)  # stored in 16 bits
            assert new["cache_bytes"] == old["cache_bytes"]
    with pytest.raises(ValueError, match="tokenizer must be the one"):
        load_model(JOBS[0].result(here).with_suffix(".safetensors"), "ab" * 32)


def test_what_is_kept(here):
    rows = merged([here], "tiny")
    assert [row["cell"] for row in rows] == sorted(job.cell for job in JOBS)
    assert {row["tokens_read"] for row in rows} == {SCALES["tiny"].tokens}
    assert not list((here / "tiny").glob("*.run.safetensors"))
    for row in rows:
        for score in row["scores"]:
            assert 2 < score["full"] < 9
            assert abs(score["staircase"] - score["full"]) < 0.1
            assert 0 < score["cache_bytes"] < score["full_bytes"]


def test_effects_are_those_of_least_squares():
    rng, names = np.random.default_rng(0), cells()
    values = dict(zip(names, rng.normal(size=16), strict=True))
    found = effects(values)
    assert len(found) == 15
    levels = [[name.split(".")[i] for name in names] for i in range(4)]
    x = np.array([[2 * (row[j] != row[0]) - 1 for j in range(16)] for row in levels])
    factors = list(factorial.FACTORS)
    for name, effect in found.items():
        columns = [x[factors.index(f)] for f in name.split(" × ")]
        fit = np.linalg.lstsq(
            np.stack([np.ones(16), np.prod(columns, 0)], 1), np.array(list(values.values()))
        )
        assert effect == pytest.approx(2 * fit[0][1])
    half = {name: values[name] for name in cells("*.default")}
    assert list(effects(half))[:3] == ["tokenizer", "positions", "attention"]
    only = {"bpe.rope.dense.default": 3.0, "swe.rope.dense.default": 2.5}
    assert effects(only) == {"tokenizer": -0.5}
    with pytest.raises(ValueError, match="values must have all 4 cells"):
        effects({**only, "swe.harmonic.dense.default": 1.0})


# ------------------------------------------------------------------ runners


@pytest.mark.usefixtures("preloaded")
def test_two_processes_come_to_the_same_table(here, folder):
    ended = []
    with processes.pool_of(2) as pool:
        assert run(JOBS, folder, pool, ended.append) == {}
    assert [e.done for e in ended] == [1, 2, 3, 4, 5]
    assert table(folder) == table(here)


def test_two_workers_of_a_dask_cluster_come_to_the_same_table(here, folder):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as pool,
    ):
        assert len(client.scheduler_info()["workers"]) == 2
        assert run(JOBS, folder, pool) == {}
    assert table(folder) == table(here)


@pytest.mark.usefixtures("preloaded")
def test_a_runner_that_is_killed_is_started_again(here, folder, monkeypatch):
    command = [sys.executable, "-m", "book.experiments.one_model", "run", "--scale", "tiny"]
    command += ["--cells", PATTERN, "--seeds", "1", "--budgets", "tokens", "--workers", "1"]
    command += ["--folder", str(folder)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    process.stdout.readline()  # the first job is done
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = {path: path.stat().st_mtime_ns for path in (folder / "tiny").glob("*.json")}
    assert before
    # as the command does, without loading torch twice more
    monkeypatch.setattr(runners, "get_context", {"spawn": processes.FRESH}.__getitem__)
    assert main(command[3:]) == 0
    assert table(folder) == table(here)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing done twice


def test_a_job_that_is_cut_off_in_training_goes_on(here, folder, monkeypatch):
    calls = iter(range(100))

    def cut(*args):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return token_nats(*args)

    monkeypatch.setattr(training, "token_nats", cut)
    with pytest.raises(KeyboardInterrupt):
        do(JOBS[0], folder)
    assert len(list((folder / "tiny").glob("*.run.safetensors"))) == 1
    monkeypatch.undo()
    again = do(JOBS[0], folder)
    assert {n: again[n] for n in SAME} == {n: read(JOBS[0].result(here))[n] for n in SAME}
    assert not list((folder / "tiny").glob("*.run.safetensors"))


def test_a_job_that_fails_takes_no_other_with_it(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(factorial, "FOUND", tmp_path / "none.json")
    bad = Job("tiny", "bpe.rope.dense.found", "tokens", 0)
    with InThisProcess() as pool:
        failed = run([bad, JOBS[0]], folder, pool)
    assert list(failed) == [bad]
    assert failed[bad].startswith("FileNotFoundError: settings 'found'")
    assert len(table(folder)) == 1


def test_folders_are_merged_without_loss(here, folder, tmp_path_factory):
    a, b = folder, tmp_path_factory.mktemp("b")
    for i, job in enumerate(JOBS):
        for target in (a, b) if i == 2 else (a,) if i < 2 else (b,):  # one lies in both
            (target / "tiny").mkdir(exist_ok=True)
            shutil.copy(job.result(here), job.result(target))
    assert merged([a, b], "tiny") == merged([b, a], "tiny") == merged([here], "tiny")
    files.write_json(JOBS[0].result(b), {**read(JOBS[0].result(a)), "made_from": "other"})
    with pytest.raises(ValueError, match=r"folders must agree on bpe\.rope\.dense\.default"):
        merged([a, b], "tiny")


def test_the_table_is_printed(here, capsys):
    assert main(["table", "--scale", "tiny", "--folder", str(here)]) == 0
    printed = capsys.readouterr().out
    assert "bits a byte, equal tokens, staircase cache" in printed
    assert "no effects: values must have all 8 cells" in printed
    arguments = ["table", "--scale", "tiny", "--cells", "*.harmonic.*.default"]
    assert main([*arguments, "--folder", str(here)]) == 0
    printed = capsys.readouterr().out
    assert "tokenizer × attention" in printed
    assert "rope" not in printed


def test_an_effect_is_real_at_one_in_a_hundred():
    assert verdict([0.1]) == verdict([0.1, 0.1]) == ""
    assert verdict([-0.10, -0.11, -0.09, -0.10, -0.105]) == "p 0.0000, real"
    assert verdict([0.1, -0.2, 0.3, 0.0, 0.1]).startswith("p 0.5")


class InThisProcess(Executor):
    """An executor whose jobs are done when they are submitted."""

    def submit(self, what, *args):
        future = Future()
        try:
            future.set_result(what(*args))
        except Exception as error:
            future.set_exception(error)
        return future
