# What the rules share: the run, the folders, and the resources of a job.
from stitchlib.errors import StitchlibError
from stitchlib.runs import Run, job_mb, shards_of, tables_of

from snakemake.logging import logger

SCRIPTS = Path(workflow.current_basedir).parent / "scripts"
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
SAID = set()  # what the placement has to say is said once, though asked for more often
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
    for line in dataset.remarks():
        if line not in SAID:
            SAID.add(line)
            logger.warning(line)
    return [str(path) for path in dataset.finish()]


def memory(wildcards, input):
    return job_mb(Path(input.card))
