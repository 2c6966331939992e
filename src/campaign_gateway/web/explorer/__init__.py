"""Serves the GraphiQL page, its assets and its examples from the gateway itself."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_BUNDLE = Path(__file__).parent / "dist"
_EXAMPLES = "/graphiql/examples.json"

# Monaco creates style elements, so styles need 'unsafe-inline'. Scripts come only from our files.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; "
    "script-src 'self'; "
    "style-src 'self' 'unsafe-inline'; "
    "worker-src 'self' blob:; "
    "img-src 'self' data:; "
    "font-src 'self' data:; "
    "connect-src 'self'; "
    "base-uri 'none'; "
    "form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {"content-security-policy": _CONTENT_SECURITY_POLICY}

_NOT_BUILT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>GraphiQL was not built</title>
<h1>GraphiQL was not built</h1>
<p>The gateway runs, but this installation has no GraphiQL page: the page could not be built when
the package was installed.</p>
<p>Install Node.js 20.19 or newer with npm, or allow pip to reach its package index. Allow npm to
reach the npm registry. Then run this command in the source folder and restart the gateway:</p>
<pre>pip install --force-reinstall .</pre>
</html>
"""


class _Assets(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        # The machine may map .js to plain text. With nosniff, browsers then reject it.
        if path.endswith(".js") and response.status_code == HTTPStatus.OK:
            response.headers["content-type"] = "text/javascript; charset=utf-8"
        # File names in assets/ contain a digest of the content, so a cached file is never outdated.
        if Path(path).parts[0] == "assets":
            response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def page_paths(bundle: Path = _BUNDLE) -> frozenset[str]:
    """Return the paths of the page and its assets, which are equal for every caller."""
    files = (file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.is_file())
    return frozenset({"/", "/graphiql", "/graphiql/", *(f"/graphiql/{file}" for file in files)})


def explorer_routes(
    examples: Callable[[Request], Mapping[str, object]], bundle: Path = _BUNDLE
) -> list[BaseRoute]:
    """Return the page's routes. `examples` is called on every page load, so keys are always new.

    It returns `tabs`, each with a query and its variables, and `isSandbox`.
    """
    index = bundle / "index.html"
    built = index.exists()
    page = index.read_text(encoding="utf-8") if built else _NOT_BUILT
    status = 200 if built else 503

    async def serve_page(_: Request) -> Response:
        return HTMLResponse(page, status, headers={**_HEADERS, "cache-control": "no-cache"})

    async def serve_examples(request: Request) -> Response:
        return JSONResponse(examples(request), headers={**_HEADERS, "cache-control": "no-store"})

    routes: list[BaseRoute] = [
        Route("/graphiql", serve_page),
        Route("/graphiql/", serve_page),
        Route(_EXAMPLES, serve_examples),
    ]
    if built:
        routes.append(Mount("/graphiql", _Assets(directory=bundle)))
    return routes
