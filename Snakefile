# Stitch every dataset of a tile sheet. The rules are in workflow/rules, one file a stage; which jobs
# there are, and what their results are called, is decided in stitchlib/runs.py.
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

min_version("9.16")

# Where only the rules were fetched from a repository, as `module` with github(...) does, the library
# must be installed, in the same version.
FETCHED = not isinstance(workflow.current_basedir, os.PathLike)
if FETCHED:
    text = Path(workflow.source_path("stitchlib/_version.py")).read_text(encoding="utf-8")
    needed, found = re.search(r'__version__ = "(.+)"', text)[1], "none"
    try:
        from stitchlib import __version__ as found
    except ImportError:
        pass
    if found != needed:
        raise WorkflowError(
            f"{workflow.current_basedir}: these rules need stitchlib {needed} where Snakemake is "
            f"installed, and there is {found}; see docs/reruns.md, In another workflow"
        )
else:
    sys.path.insert(0, str(workflow.current_basedir))


# A configuration that is named on the command line is the whole configuration.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/align.smk"
include: "workflow/rules/place.smk"
include: "workflow/rules/stitch.smk"
include: "workflow/rules/assemble.smk"


rule all:
    default_target: True
    input:
        wanted_records(),
    localrule: True


onsuccess:
    dont_wait()
    if RUN is not None:
        cleaned = clean_finished(RUN)
        if cleaned:
            logger.info(cleaned)
