# What the rules share: the run, the folders, and the resources of a job.
from stitchlib.errors import StitchlibError
from stitchlib.runs import Run, job_mb, shards_of, tables_of

SCRIPTS = Path(workflow.current_basedir).parent / "scripts"
ENVIRONMENT = str(Path(workflow.current_basedir).parents[1] / "environment.yml")
# The interpreter that runs Snakemake, but where Snakemake deploys an environment for the jobs.
PYTHON = "python" if workflow.deployment_settings.deployment_method else sys.executable
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
RUN = None
if workflow.is_main_process:
    try:
        RUN = Run.of(config)
        RUN.write_cards()
    except StitchlibError as error:
        raise WorkflowError(str(error)) from None


def wanted_records():
    return [] if RUN is None else [str(d.dataset_record) for d in RUN.datasets.values()]


def finished(wildcards):
    """What is wanted of a dataset, known when its tiles are placed."""
    dataset = RUN.datasets[wildcards.dataset]
    checkpoints.place.get(dataset=wildcards.dataset, digest=dataset.place_card.digest)
    return [str(path) for path in dataset.finish()]


def memory(wildcards, input):
    return job_mb(Path(input.card))
