"""Templates: ours first, then Flower's, whose navigation gets one more entry.

Flower has no place for a plug-in's pages.  Its navigation is changed while it is read; where it no
longer looks as it did, it stays as it is, and our pages are found by their address.
"""

from pathlib import Path
from typing import Any

from tornado.template import Loader, Template

OWN = Path(__file__).parent / "templates"
_NAVIGATION = "navbar.html"
_TASKS = b"reverse_url('tasks')"
_END_OF_ENTRY = b"</li>"
_ENTRY = b"""
        <li class="nav-item">
          <a class="nav-link{% if active_tab == 'workflows' %} active{% end %}"
            href="{{ reverse_url('workflows') }}"
            {% if active_tab == 'workflows' %}aria-current="page"{% end %}>Workflows</a>
        </li>"""


class PageLoader(Loader):
    """Loads templates by name; `root` is Flower's own folder."""

    def _create_template(self, name: str) -> Template:
        own = OWN / name
        source = (own if own.is_file() else Path(self.root, name)).read_bytes()
        if name == _NAVIGATION:
            source = with_entry(source)
        return Template(source, name=name, loader=self)


def with_entry(navigation: bytes) -> bytes:
    """Return the navigation with "Workflows" behind "Tasks"."""
    tasks = navigation.find(_TASKS)
    end = navigation.find(_END_OF_ENTRY, tasks)
    if tasks < 0 or end < 0:
        return navigation
    end += len(_END_OF_ENTRY)
    return navigation[:end] + _ENTRY + navigation[end:]


def use_page_loader(settings: dict[str, Any]) -> None:
    """Have the application that is made of `settings` load its templates with `PageLoader`."""
    settings["template_loader"] = PageLoader(settings["template_path"])
