"""Whether a Jinja template can be read. It is only parsed here, never compiled nor rendered."""

from __future__ import annotations

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateSyntaxError as JinjaSyntaxError
from jinja2.ext import Extension
from jinja2.parser import Parser

from ..gotemplate.errors import TemplateSyntaxError
from ..template import Syntax, Template


class Generation(Extension):
    """`{% generation %}` marks the model's own words in training templates; its body is printed."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def check_template(template: Template) -> None:
    """Raises TemplateSyntaxError, whichever syntax the template is in."""
    template.check()
    if template.kind is not Syntax.JINJA:
        return
    # the same extensions as where it is rendered, in qm.daemon.chat.render_worker
    environment = Environment(  # noqa: S701 (prompts are no HTML)
        extensions=["jinja2.ext.loopcontrols", Generation]
    )
    try:
        environment.parse(template.text)
    except JinjaSyntaxError as error:
        raise TemplateSyntaxError(error.message or "can't be read", error.lineno) from error
    except RecursionError as error:
        raise TemplateSyntaxError("nested too deeply", 1) from error
