"""What `mmpo eval` does with answers of vision-language models. Heavy imports come with the work."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import typer

VLM_KINDS = "pope, chair, amber, mmhal, hallusion or mme"


@dataclass(frozen=True)
class VlmOptions:
    """What the command line says.

    Args:
        questions: the benchmark's own files.
        write: write its questions there and score nothing.
        judge, judge_model, judge_key: as of `pipelines.vlm_judge.judge_of`.
        run: whose base and tuned model answer, in place of files.
        images: of the questions that a run is asked.
        overrides: changes to that run's section evaluation.
    """

    benchmark: str
    questions: list[Path] = field(default_factory=list)
    answers: Path | None = None
    against: Path | None = None
    synonyms: Path | None = None
    judge: str | None = None
    judge_model: str | None = None
    judge_key: str = ""
    partial: bool = False
    write: Path | None = None
    limit: int | None = None
    seed: int = 0
    output: Path | None = None
    run: Path | None = None
    images: Path | None = None
    overrides: list[str] = field(default_factory=list)


def run(options: VlmOptions) -> None:
    """Scores files of answers or a run's own, or writes the questions to answer.

    Raises:
        ValueError: options that do not fit, or files that are not as expected.
    """
    from pipelines.vlm_benchmarks import Tools, benchmark_named

    benchmark = benchmark_named(options.benchmark)
    if not options.questions:
        raise ValueError(f"--questions: name {benchmark.title}'s own files; docs/vlm-evaluation.md says which")
    missing = next((path for path in options.questions if not path.exists()), None)
    if missing is not None:
        raise ValueError(f"--questions {missing}: no such file or folder")
    if options.run is not None:
        return _of_run(options, options.run)
    if options.images is not None or options.overrides:
        what = f"'{options.overrides[0]}'" if options.overrides else "--images"
        raise ValueError(f"{what}: is for a benchmark of RUN, which asks its models; name its folder")
    if (options.write is None) == (options.answers is None):
        raise ValueError("--answers: name the answers to score; or --write-questions a file of questions to answer")
    if options.limit is not None and options.write is None:
        raise ValueError("--limit: is of --write-questions; answers are scored as far as they are there")
    if options.write is not None:
        return _write(options)
    from pipelines.vlm_evaluate import evaluate_answers, result_lines, save
    from pipelines.vlm_judge import judge_of

    if options.against is not None:
        _refuse_replies(options)
    tools = Tools(options.questions, options.synonyms, judge_of(options.judge, options.judge_model, options.judge_key))
    assert options.answers is not None
    result = evaluate_answers(
        benchmark, options.answers, tools, against=options.against, partial=options.partial, seed=options.seed
    )
    for line in result_lines(result):
        typer.echo(line)
    if options.output is not None:
        save(result, options.output)
        typer.echo(f"written: {options.output}")


def _refuse_replies(options: VlmOptions) -> None:
    if options.judge not in (None, "yes_no") and "://" not in str(options.judge):
        raise ValueError("--judge: a file of replies is of one file of answers; score each side alone")


def _of_run(options: VlmOptions, run: Path) -> None:
    """A run's base and tuned model answer the benchmark's questions."""
    given = {"--answers": options.answers, "--against": options.against, "--write-questions": options.write}
    wrong = next((name for name, value in {**given, "--output": options.output}.items() if value is not None), None)
    if wrong is not None:
        raise ValueError(f"{wrong}: RUN's own models answer, and the result stays in its folder; leave one of them out")
    _refuse_replies(options)
    from pipelines.vlm_benchmarks import Tools
    from pipelines.vlm_evaluate import result_lines
    from pipelines.vlm_judge import judge_of
    from pipelines.vlm_run_benchmark import benchmark_run

    result = benchmark_run(
        run,
        options.benchmark,
        Tools(options.questions, options.synonyms, judge_of(options.judge, options.judge_model, options.judge_key)),
        images=options.images,
        limit=options.limit,
        partial=options.partial,
        seed=options.seed,
        overrides=options.overrides,
    )
    for line in result_lines(result):
        typer.echo(line)
    typer.echo(f"written: {run / f'evaluation-{options.benchmark}.json'}")
    typer.echo(f"next: {shlex.join(['mmpo', 'report', str(run)])}")


def compare_run(run: Path, overrides: list[str]) -> None:
    """`mmpo eval RUN` of a vision-language model."""
    from pipelines.tables import answer_lines
    from pipelines.vlm_run_evaluation import evaluate_vlm

    result = evaluate_vlm(run, overrides)
    for line in answer_lines(result):
        typer.echo(line)
    typer.echo(f"written: {run / 'evaluation.json'} and {run / 'answers'}")
    typer.echo(f"next: {shlex.join(['mmpo', 'report', str(run)])}")


def _write(options: VlmOptions) -> None:
    from pipelines.vlm_benchmarks import benchmark_named
    from pipelines.vlm_evaluate import write_questions

    assert options.write is not None
    items = benchmark_named(options.benchmark).read(options.questions)
    counts = write_questions(items, options.write, limit=options.limit, seed=options.seed)
    typer.echo(f"{counts['written']:,} questions")
    for name in ("repeated", "without an image"):
        if counts[name]:
            typer.echo(f"left out, {name}: {counts[name]:,}")
    typer.echo(f"written: {options.write}")
    ask = ["mmpo", "respond", str(options.write), "data.images=IMAGES", "responses.count=1", "responses.temperature=0"]
    typer.echo(f"next: {shlex.join([*ask, '--model', 'MODEL', '--output', 'ANSWERS'])}")
    again = [
        "mmpo",
        "eval",
        "--benchmark",
        options.benchmark,
        *(p for q in options.questions for p in ("--questions", str(q))),
    ]
    typer.echo(f"then: {shlex.join([*again, '--answers', 'ANSWERS'])}")
