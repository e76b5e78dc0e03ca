"""Go's text/template, as far as prompt templates use it, interpreted in Python.

    template = parse("{{ range .Messages }}{{ .Content }}{{ end }}")
    prompt = execute(template, {"Messages": [...]})

Written from the language's documentation, https://pkg.go.dev/text/template, and the values that
Ollama hands to templates. Nothing here limits time or memory: templates come from strangers, so
run it where both are limited.
"""
