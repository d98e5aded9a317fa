wasi-guard policy
wasi-guard policy reload guest-0-0 good.toml
wasi-guard policy reload guest-0-0 no-such.toml
wasi-guard policy reload ../lock good.toml
wasi-guard policy reload guest-0-0
