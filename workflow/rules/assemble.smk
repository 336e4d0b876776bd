# The volume itself is no output: Snakemake would delete the old one before the new one is made.
rule assemble:
    input:
        card=ancient(f"{FOLDER}/cards/assemble/{{digest}}.json"),
        shards=ancient(shards),
    output:
        f"{FOLDER}/records/assemble.{{digest}}.json",
    log:
        f"{FOLDER}/logs/assemble/{{digest}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/assemble/{{digest}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory,
        runtime=minutes,
    params:
        command=command("assemble"),
        volume=volume,
    message:
        "{wildcards.dataset}: assembling the volume {params.volume}"
    shell:
        "{params.command:q} {input.card:q} {output:q} {params.volume:q} 2> {log:q}"


# Needs no more than the placement, so it is there long before the volume; of no threads, so that no
# shard waits for it.
rule preview:
    input:
        place=ancient(lambda wildcards: place_of(FOLDER.format(**wildcards), wildcards.digest)),
        card=ancient(f"{FOLDER}/cards/dataset/{{digest}}.json"),
    output:
        f"{FOLDER}/records/preview.{{digest}}.json",
    log:
        f"{FOLDER}/logs/preview/{{digest}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 0
    resources:
        mem_mb=memory_of_preview,
    params:
        command=command("preview"),
        tiles=tiles_folder,
    message:
        "{wildcards.dataset}: drawing preview.png"
    shell:
        "{params.command:q} {input.card:q} {output:q} {params.tiles:q} 2> {log:q}"


# One such job per dataset stands between `all` and its shards, so that datasets go on independently.
# It asks for the results of all of the dataset's jobs, and these are not ancient: when a placement
# is done, Snakemake looks anew for what is to be made, but not past an ancient file that is there
# already of a job that is just ending. Were that job the last one running, whatever else is still to
# be made would be forgotten.
rule dataset:
    input:
        finished,
        tables=tables_of_dataset,
        card=ancient(f"{FOLDER}/cards/dataset/{{digest}}.json"),
    output:
        f"{FOLDER}/records/dataset.{{digest}}.json",
    log:
        f"{FOLDER}/logs/dataset/{{digest}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory,
    params:
        command=command("dataset"),
    message:
        "{wildcards.dataset}: finished"
    shell:
        "{params.command:q} {input.card:q} {output:q} 2> {log:q}"
