# What the rules share: the run, the folders, and the resources of a job.
#
# Results are named by what made them: a job runs because the file of that name does not exist. So
# inputs are ancient() (dates decide nothing; where they are not, see the rule `dataset`), every job is
# a `shell:` line (its code is no trigger; a stage's version in its card is), and whatever is kept is
# an input of `dataset`, so that it is made again where it is gone.
import sys
import threading
from functools import lru_cache

from stitchlib.cards import place_card_of, place_of, read_card, shards_of, tables_of
from stitchlib.clean import clean_finished
from stitchlib.errors import StitchlibError
from stitchlib.jobs import explain
from stitchlib.leases import others, take_for_run
from stitchlib.memory import card_mb, preview_mb
from stitchlib.progress import show_progress
from stitchlib.runs import Run
from stitchlib.runtimes import card_minutes

from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod


def source(name):
    """A file of the project, by its path from here."""
    if FETCHED:
        return str(workflow.source_path(name))
    return os.path.normpath(Path(workflow.current_basedir) / name)


SCRIPTS = {
    name: source(f"../scripts/{name}.py")
    for name in ("align", "place", "stitch", "assemble", "preview", "dataset")
}
ENVIRONMENT = source("../../environment.yml")
DEPLOYED = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
if DEPLOYED and FETCHED:
    raise WorkflowError(
        "--software-deployment-method conda: rules that were fetched from a repository run with the "
        "stitchlib that is installed beside Snakemake; leave the option out"
    )
# The interpreter that runs Snakemake, but where Snakemake deploys an environment for the jobs.
PYTHON = "python" if DEPLOYED else sys.executable
RESULTS = Path(config.get("results", "results")).as_posix()
TILES = Path(config.get("tiles", "config/tiles.tsv")).parent.as_posix()
FOLDER = f"{RESULTS}/{{dataset}}"


wildcard_constraints:
    dataset=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    channel=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    block=r"[xyz0-9-]+",
    shard=r"[xyz0-9-]+",
    digest=r"[0-9a-f]{12}",


# Only the main process plans: a job on a cluster is asked for one file and reads its card alone.
# Nor is there anything to plan for --lint, which checks nothing but rules, so not environments either.
RUN = None
DRY_RUN = bool(getattr(workflow.output_settings, "dryrun", False))
SAID = set()  # what the placement has to say is said once, though asked for more often
if workflow.is_main_process and workflow.check_envvars:
    try:
        RUN = Run.of(config)
        take_for_run(RUN.config.results, RUN.datasets)
        # A look at what would run must not take away records that a run beside it has just made.
        RUN.prepare(drop=not (DRY_RUN and others(RUN.config.results, RUN.datasets, "run")))
        show_progress(RUN)
    except (StitchlibError, MemoryError, OSError) as error:
        raise WorkflowError(explain(error)) from None


# Snakemake ends when the timer has run off that would have made it look for further jobs: a second.
def dont_wait():
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


def wanted_records():
    return [] if RUN is None else [str(d.dataset_record) for d in RUN.datasets.values()]


def finished(wildcards):
    """What is wanted of a dataset, known when its tiles are placed."""
    dataset = RUN.datasets[wildcards.dataset]
    checkpoints.place.get(dataset=wildcards.dataset, digest=dataset.place_card.digest)
    for line in dataset.remarks():
        if line not in SAID:
            SAID.add(line)
            logger.warning(line)
    try:
        return [str(path) for path in dataset.finish(drop=not DRY_RUN)]
    except (StitchlibError, MemoryError, OSError) as error:
        raise WorkflowError(explain(error)) from None


# On a cluster, Snakemake has waited for these files before the job starts, and the job finds their
# names in its card: there, thousands of them would only cost time.
def tables(wildcards):
    return tables_of(FOLDER.format(**wildcards), wildcards.digest) if RUN else []


def tables_of_dataset(wildcards):
    return [str(path) for path in RUN.datasets[wildcards.dataset].tables]


def shards(wildcards):
    return shards_of(FOLDER.format(**wildcards), wildcards.digest) if RUN else []


# A cluster counts the two Snakemakes that run a job's command against the job's memory; a machine
# of one's own doesn't ask. What is asked for grows with every attempt (`retries` of the profile).
def wrapper_mb():
    return 0 if workflow.local_exec else 300


def memory(wildcards, input, attempt):
    return attempt * (wrapper_mb() + card_mb(card_of(input.card)))


def memory_of_preview(wildcards, attempt):
    placed = place_card_of(FOLDER.format(**wildcards), wildcards.digest)
    return attempt * (wrapper_mb() + preview_mb(placed))


def minutes(wildcards, input, attempt):
    return attempt * card_minutes(card_of(input.card))


# Memory and time of a job are asked for one after the other.
@lru_cache(maxsize=1)
def card_of(path):
    return read_card(Path(path))


# Where things stand on this machine. Functions of `input`, because Snakemake then takes them as
# derived from it: another place is no reason to run a job again. (As names in the shell line they
# would not be found where this is a module of another workflow.)
def command(name):
    return lambda wildcards, input: [PYTHON, SCRIPTS[name]]


def tiles_folder(wildcards, input):
    return TILES


def volume(wildcards, input):
    return f"{FOLDER}/{{dataset}}.h5".format(**wildcards)
