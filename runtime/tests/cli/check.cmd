wasi-guard check good.toml
wasi-guard check nothing.toml
wasi-guard check audit-mode.toml
wasi-guard check good.toml hello.wat
wasi-guard check good.toml hello.wasm
wasi-guard check good.toml no-such.wasm
wasi-guard check good.toml unknown-import.wat
wasi-guard check good.toml empty-component.wat
wasi-guard check host-missing.toml hello.wat
ln -s out data/alias; ln -s ../state.db data/out/alias; wasi-guard check host-names.toml
wasi-guard check good.toml > /dev/full
wasi-guard check good.toml >&-
wasi-guard check single-file.toml
wasi-guard check below-file.toml
