wasi-guard fly
wasi-guard run
wasi-guard run --polcy good.toml hello.wat
wasi-guard run --mode off hello.wat
wasi-guard run --audit a.jsonl --audit-fd 3 hello.wat
wasi-guard run --audit-fd 77 --policy good.toml hello.wat
wasi-guard run --dir ::/data hello.wat
wasi-guard run --env =x hello.wat
wasi-guard run --policy good.toml --dir data hello.wat
wasi-guard run --policy good.toml -S inherit-network hello.wat
wasi-guard run --invoke add hello.wat
wasi-guard run -W fuell=1 hello.wat
wasi-guard run -W fuel=much hello.wat
wasi-guard run -S http hello.wat
wasi-guard run --dir data hello.wat "$(printf 'a\377')"
X="$(printf 'a\377')" wasi-guard run --env X hello.wat
wasi-guard check
wasi-guard doctor --quiet --json
wasi-guard completions tcsh
wasi-guard man no/such/directory
