wasi-guard
wasi-guard -h
wasi-guard --help
wasi-guard run --help
wasi-guard run -h
wasi-guard compile --help
wasi-guard check --help
wasi-guard explain --help
wasi-guard policy --help
wasi-guard policy test --help
wasi-guard policy show --help
wasi-guard policy reload --help
wasi-guard doctor --help
wasi-guard unload --help
wasi-guard completions --help
wasi-guard man --help
