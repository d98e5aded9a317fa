wasi-guard compile --cache cache hello.wat
wasi-guard compile --cache cache hello.wat
wasi-guard compile --cache cache hello.wasm
wasi-guard compile --cache cache --policy good.toml hello.wasm
wasi-guard compile --cache cache --policy good.toml hello.wasm
wasi-guard compile --cache cache --target x86_64-unknown-linux-gnu hello.wasm
ls cache | wc -l; stat -c %a cache
for entry in cache/*.cwasm; do printf x | dd of=$entry bs=1 seek=100 conv=notrunc 2>/dev/null; done; wasi-guard compile --cache cache hello.wat
wasi-guard compile --cache cache hello.wat
chmod 755 cache; wasi-guard compile --cache cache hello.wat
wasi-guard compile --cache good.toml hello.wat
chmod 700 cache; wasi-guard compile --cache cache -v hello.wat | sed 's/layers .*/layers .../'
