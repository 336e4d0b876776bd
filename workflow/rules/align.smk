rule align:
    input:
        card=ancient(f"{FOLDER}/cards/align/{{block}}.{{digest}}.json"),
    output:
        f"{FOLDER}/pairs/{{block}}.{{digest}}.tsv",
    log:
        f"{FOLDER}/logs/align/{{block}}.{{digest}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/align/{{block}}.{{digest}}.tsv"
    resources:
        mem_mb=memory,
        runtime=60,
    message:
        "{wildcards.dataset}: aligning the pairs of {wildcards.block}"
    shell:
        "{sys.executable:q} {SCRIPTS:q}/align.py {input.card:q} {output:q} {TILES:q} 2> {log:q}"
