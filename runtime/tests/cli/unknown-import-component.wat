(component (import "acme:space/rocket@1.0.0" (instance (export "launch" (func)))))
