wasi-guard check data
wasi-guard check no-such.toml
wasi-guard check ''
wasi-guard check /dev/null
printf 'version = 1\n# \377\n' > latin1.toml; wasi-guard check latin1.toml
printf '\357\273\277version = 1\r\n[limits]\r\ncpu = 0\r\n' > bom.toml; wasi-guard check bom.toml
printf 'version = 1\0' > nul.toml; wasi-guard check nul.toml
printf '[[\r' > cut.toml; wasi-guard check cut.toml
wasi-guard check /dev/zero
mkfifo fifo; ln -s nowhere dangling; wasi-guard check host-kinds.toml
wasi-guard explain data read /data/x
wasi-guard policy show /dev/zero
wasi-guard policy test data
wasi-guard policy reload guest data
wasi-guard run --policy data hello.wat
wasi-guard run --policy /dev/zero hello.wat
