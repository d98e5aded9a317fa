wasi-guard check no-such.toml
wasi-guard run --policy no-such.toml hello.wat
wasi-guard explain no-such.toml read /data/x
wasi-guard check data
printf 'version = 1\n# \377\n' > not-utf8.toml; wasi-guard check not-utf8.toml
wasi-guard run --policy not-utf8.toml hello.wat
wasi-guard check unknown-key.toml
wasi-guard run --policy unknown-key.toml hello.wat
wasi-guard explain unknown-key.toml read /data/x
wasi-guard compile --policy unknown-key.toml --cache cache hello.wat
wasi-guard check wrong-type.toml
wasi-guard run --policy wrong-type.toml hello.wat
wasi-guard check bad-glob.toml
wasi-guard run --policy bad-glob.toml hello.wat
wasi-guard check syntax.toml
wasi-guard check never-matches.toml
wasi-guard check bpf.toml
wasi-guard check host-missing.toml
wasi-guard run --policy host-missing.toml hello.wat
wasi-guard run --dir no/such/directory hello.wat
: > empty.toml; wasi-guard check empty.toml
