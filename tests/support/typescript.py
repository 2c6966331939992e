"""A frontend's folder, on which the code generator and the compiler run."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.node import TESTS, node

# The compiler options of a new Vite project, and stricter ones.
STRICT = {
    "strict": True,
    "verbatimModuleSyntax": True,
    "target": "ES2022",
    "lib": ["ES2022", "DOM"],
    "module": "ESNext",
    "moduleResolution": "bundler",
    "skipLibCheck": True,
    "types": [],
}
STRICTEST = {**STRICT, "exactOptionalPropertyTypes": True, "noUncheckedIndexedAccess": True}


@dataclass(frozen=True)
class Mistake:
    """One error of the compiler: its number, the word that it points at, and its message."""

    code: str
    place: str
    message: str


class Frontend:
    def __init__(self, folder: Path) -> None:
        node()
        self.folder = folder
        (folder / "src").mkdir(parents=True)
        (folder / "node_modules").symlink_to(TESTS / "node_modules")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, "utf-8")

    def generate(self) -> None:
        """Run the code generator with the configuration in the folder."""
        complaint = self.complaint()
        assert complaint is None, complaint

    def complaint(self) -> str | None:
        """Run the code generator. Return its output if it fails, or else None."""
        done = self._run("@graphql-codegen/cli/esm/bin.js")
        return done.stdout + done.stderr if done.returncode else None

    def generated(self) -> str:
        return (self.folder / "src" / "gql" / "graphql.ts").read_text("utf-8")

    def mistakes(self, options: dict[str, object]) -> dict[str, list[Mistake]]:
        """Return the errors that the compiler finds, by file."""
        config = {"compilerOptions": {**options, "noEmit": True}, "include": ["src", "codegen.ts"]}
        self.write("tsconfig.json", json.dumps(config))
        done = self._run("typescript/bin/tsc", "--pretty", "false")
        by_file: dict[str, list[Mistake]] = {}
        for block in re.split(r"^(?=\S)", done.stdout, flags=re.MULTILINE)[1:]:
            place = re.match(r"(\S+)\((\d+),(\d+)\): error (TS\d+): (.*)", block, re.DOTALL)
            # An error in no file is an error in our own configuration.
            assert place, f"the compiler failed:\n{done.stdout}{done.stderr}"
            file, line, column, code, message = place.groups()
            source = (self.folder / file).read_text("utf-8").splitlines()[int(line) - 1]
            word = re.match(r"\w*", source[int(column) - 1 :])
            assert word
            by_file.setdefault(file, []).append(Mistake(code, word[0], message.strip()))
        assert done.returncode == 0 or by_file, f"the compiler failed:\n{done.stdout}{done.stderr}"
        return by_file

    def build(self) -> Path:
        """Compile to modules that Node.js loads without a bundler. Return their folder."""
        output = {"module": "CommonJS", "rootDir": "src", "outDir": "built"}
        options = {**STRICT, "verbatimModuleSyntax": False, **output}
        self.write("tsconfig.json", json.dumps({"compilerOptions": options, "include": ["src"]}))
        done = self._run("typescript/bin/tsc")
        assert done.returncode == 0, done.stdout + done.stderr
        built = self.folder / "built"
        (built / "package.json").write_text('{ "type": "commonjs" }', "utf-8")
        return built

    def _run(self, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [node(), self.folder / "node_modules" / tool, *arguments],
            cwd=self.folder,
            # The generator fetches schemas from this machine, so it must not use a proxy.
            env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
