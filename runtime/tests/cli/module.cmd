wasi-guard compile --cache cache no-such.wasm
wasi-guard compile --cache cache data
: > empty.wasm; wasi-guard compile --cache cache empty.wasm
head -c 6 hello.wasm > header.wasm; wasi-guard compile --cache cache header.wasm
head -c 60 hello.wasm > truncated.wasm; wasi-guard compile --cache cache truncated.wasm
echo '#!/bin/sh' > script.wasm; wasi-guard compile --cache cache script.wasm
printf '\177ELF\2\1\1' > elf.wasm; wasi-guard compile --cache cache elf.wasm
printf '\0asm\2\0\0\0' > version.wasm; wasi-guard compile --cache cache version.wasm
printf '\0asm\15\0\1\0\377\377' > component.wasm; wasi-guard compile --cache cache component.wasm
echo '(module (func $f' > open.wat; wasi-guard compile --cache cache open.wat
wasi-guard compile --cache cache unknown-import.wat
wasi-guard compile --cache cache unknown-import-component.wat
wasi-guard compile --cache cache module-as-component.wat
wasi-guard compile --cache cache empty-component.wat
wasi-guard compile --cache cache no-start.wat
wasi-guard compile --cache cache wrong-type.wat
wasi-guard compile --cache cache --target pdp11-unknown-unix hello.wat
ls cache
