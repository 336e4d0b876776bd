# All that the workflow and its jobs need:
#     docker build -t stitchlib .
#     docker run --rm -u "$(id -u):$(id -g)" -v "$PWD":"$PWD" -w "$PWD" stitchlib \
#         snakemake -s /opt/stitchlib/Snakefile --cores 8
FROM python:3.11-slim

COPY pyproject.toml README.md LICENSE environment.yml Snakefile /opt/stitchlib/
COPY config /opt/stitchlib/config
COPY profiles /opt/stitchlib/profiles
COPY stitchlib /opt/stitchlib/stitchlib
COPY workflow /opt/stitchlib/workflow
RUN pip install --no-cache-dir '/opt/stitchlib[workflow,slurm,cluster]'
# Jobs import from that folder, and cannot write bytecode there.
RUN python -m compileall -q /opt/stitchlib/stitchlib
# Whoever runs it may have neither a home nor a name in there, and Snakemake asks for both.
ENV HOME=/tmp USER=stitchlib
