# A checkpoint: which shards there are, and what each is made of, is known when it is done.
checkpoint place:
    input:
        card=ancient(f"{FOLDER}/cards/place/{{digest}}.json"),
        tables=ancient(tables),
    output:
        f"{FOLDER}/records/place.{{digest}}.json",
    log:
        f"{FOLDER}/logs/place/{{digest}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/place/{{digest}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory,
        runtime=minutes,
    params:
        command=command("place"),
        tiles=tiles_folder,
    message:
        "{wildcards.dataset}: placing all tiles"
    shell:
        "{params.command:q} {input.card:q} {output:q} {params.tiles:q} 2> {log:q}"
