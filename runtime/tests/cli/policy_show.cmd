wasi-guard policy show good.toml
wasi-guard policy show nothing.toml
printf 'version = 1\n[network]\nconnect = ["tcp://no-such-host.invalid:1", "tcp://127.0.0.1:1"]\n' > name.toml; wasi-guard policy show name.toml
wasi-guard policy show unknown-key.toml
wasi-guard policy show no-such.toml
wasi-guard policy show single-file.toml
