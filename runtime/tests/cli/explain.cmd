wasi-guard explain good.toml read /data/in.csv
wasi-guard explain good.toml read /data/secret/key
wasi-guard explain good.toml read data/./x.pem
wasi-guard explain good.toml write /data/in.csv
wasi-guard explain good.toml open /etc/passwd
wasi-guard explain good.toml rename /data/out/tmp-1 /data/out/1
wasi-guard explain good.toml rename /data/in.csv /data/out/1
wasi-guard explain good.toml replace /data/out/tmp-1 /data/out/1
wasi-guard explain good.toml exchange /data/out/tmp-1 /data/out/tmp-2
wasi-guard explain good.toml rename_dir /data/out/tmp-1 /data/out/tmp-2
wasi-guard explain good.toml read /data/secret/x.pem
wasi-guard explain good.toml rename /data/out/tmp-1
wasi-guard explain good.toml read /data/a /data/b
wasi-guard explain good.toml read /data/../etc
wasi-guard explain good.toml connect 10.1.2.3:5432
wasi-guard explain good.toml connect 192.0.2.1:5432
wasi-guard explain good.toml send 10.1.2.3:5432
wasi-guard explain good.toml bind tcp://127.0.0.1:8080
wasi-guard explain good.toml connect 10.0.0.0/8:1
wasi-guard explain good.toml socket_create tcp
wasi-guard explain good.toml exec
wasi-guard explain good.toml exec /bin/sh
wasi-guard explain good.toml read
wasi-guard explain good.toml eat /data/x
wasi-guard explain audit-mode.toml read /data/x
wasi-guard explain audit-mode.toml read /data/in/x
wasi-guard explain audit-mode.toml open /data
wasi-guard explain single-file.toml write /etc/app.conf
wasi-guard explain single-file.toml read /etc
wasi-guard explain single-file.toml create /etc/new
wasi-guard explain single-file.toml unlink /etc/app.conf
