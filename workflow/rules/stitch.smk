rule stitch:
    input:
        card=ancient(f"{FOLDER}/cards/stitch/{{channel}}/{{shard}}.{{digest}}.json"),
    output:
        f"{FOLDER}/shards/{{channel}}/{{shard}}.{{digest}}.h5",
    log:
        f"{FOLDER}/logs/stitch/{{channel}}/{{shard}}.{{digest}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/stitch/{{channel}}/{{shard}}.{{digest}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory,
        runtime=minutes,
    params:
        command=command("stitch"),
        tiles=tiles_folder,
    message:
        "{wildcards.dataset}: stitching shard {wildcards.shard} of channel {wildcards.channel}"
    shell:
        "{params.command:q} {input.card:q} {output:q} {params.tiles:q} {threads} 2> {log:q}"
