wasi-guard policy test good.test.toml
wasi-guard policy test failing.test.toml
wasi-guard policy test bad.test.toml
wasi-guard policy test bad-question.test.toml
wasi-guard policy test no-such.test.toml
mkdir tests; sed 's/good.toml/..\/good.toml/' good.test.toml > tests/good.test.toml; wasi-guard policy test tests/good.test.toml
mkdir lost; cp good.test.toml lost; wasi-guard policy test lost/good.test.toml
sed 's/good.toml/unknown-key.toml/' good.test.toml > other.test.toml; wasi-guard policy test other.test.toml
printf 'policy = "good.toml"\n[expect]\n' > empty.test.toml; wasi-guard policy test empty.test.toml
wasi-guard policy
wasi-guard policy tset
