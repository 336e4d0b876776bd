rule align:
    input:
        card=ancient(f"{FOLDER}/cards/align/{{block}}.{{digest}}.json"),
    output:
        f"{FOLDER}/pairs/{{block}}.{{digest}}.tsv",
    log:
        f"{FOLDER}/logs/align/{{block}}.{{digest}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/align/{{block}}.{{digest}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory,
        runtime=minutes,
    params:
        command=command("align"),
        tiles=tiles_folder,
    message:
        "{wildcards.dataset}: aligning the pairs of {wildcards.block}"
    shell:
        "{params.command:q} {input.card:q} {output:q} {params.tiles:q} 2> {log:q}"
