"""Reads concept specs, and checks values against them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .types import Type, check, is_secret
from .value import Object, canonical

_TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>\d+)'
    r"|(?P<symbol>\.\.\.|[(){}:,?*|]))",
    re.ASCII,
)
_SECTIONS = ("purpose", "principle", "state", "actions", "queries")
_BUILT_IN = ("String", "Number", "Boolean", "Date", "Secret", "Any")


class BadSpec(ValueError):
    """The text is not a spec; `concert check` explains it in detail."""


@dataclass
class Param:
    """A parameter of an action or query."""

    name: str
    optional: bool
    type: Type


@dataclass
class Params:
    """A parameter list; `open` permits further keys."""

    params: list[Param] = field(default_factory=list)
    open: bool = False

    def secrets(self) -> Iterator[str]:
        """Names of the parameters whose values are secret."""
        return (param.name for param in self.params if is_secret(param.type))

    def names(self) -> set[str]:
        """Names of all parameters."""
        return {param.name for param in self.params}

    def mistakes(self, value: Object) -> str | None:
        """All violations of the list as one line, without values; `None` if there is none."""
        found = []
        for param in self.params:
            if param.name not in value:
                if not param.optional:
                    found.append(f"`{param.name}` is missing")
                continue
            item = value[param.name]
            sealed = isinstance(item, str) and item.startswith("sealed:")
            if is_secret(param.type) and sealed:
                continue
            problem = check(param.type, item)
            if problem:
                found.append(f"`{param.name}{problem[0]}` {problem[1]}")
        if not self.open:
            names = self.names()
            found += [f"`{key}` is not a parameter" for key in value if key not in names]
        return "; ".join(found) or None

    def signature(self) -> Object:
        """The list as JSON, for the hash of the spec."""
        params = [
            {"name": param.name, "optional": param.optional, "type": param.type}
            for param in sorted(self.params, key=lambda param: param.name)
        ]
        return {"params": params, "open": self.open}


@dataclass
class Action:
    """An action with its outcomes."""

    name: str
    input: Params
    success: Params | None = None
    can_fail: bool = False
    has_effects: bool = False

    def signature(self) -> Object:
        """The action as JSON."""
        return {
            "name": self.name,
            "input": self.input.signature(),
            "success": self.success.signature() if self.success else None,
            "canFail": self.can_fail,
            "hasEffects": self.has_effects,
        }


@dataclass
class Query:
    """A query; `rows` is `one`, `atMostOne` or `any`."""

    name: str
    input: Params
    output: Params
    rows: str

    def mistakes(self, rows: list[Object]) -> str | None:
        """The first violation of the spec."""
        if (self.rows == "one" and len(rows) != 1) or (self.rows == "atMostOne" and len(rows) > 1):
            return f"{self.name} returned {len(rows)} rows, which its spec does not allow"
        for row in rows:
            found = self.output.mistakes(row)
            if found:
                return f"a row of {self.name} does not match its spec: {found}"
        return None

    def signature(self) -> Object:
        """The query as JSON."""
        return {
            "name": self.name,
            "input": self.input.signature(),
            "output": self.output.signature(),
            "rows": self.rows,
        }


@dataclass
class Spec:
    """The spec of one concept."""

    name: str
    purpose: str = ""
    actions: dict[str, Action] = field(default_factory=dict)
    queries: dict[str, Query] = field(default_factory=dict)

    @staticmethod
    def parse(text: str) -> Spec:
        """Reads the text of a `.concept` file. Raises `BadSpec`."""
        return _Reader(text).spec()

    def signature(self) -> Object:
        """All signatures as JSON, without prose and in a fixed order."""
        return {
            "concept": self.name,
            "actions": [self.actions[name].signature() for name in sorted(self.actions)],
            "queries": [self.queries[name].signature() for name in sorted(self.queries)],
        }

    def hash(self) -> str:
        """SHA-256 of the canonical signature, in hexadecimal digits."""
        return hashlib.sha256(canonical(self.signature()).encode()).hexdigest()


class _Reader:
    def __init__(self, text: str) -> None:
        lines = [_Line(line) for line in text.removeprefix("\ufeff").splitlines()]
        self._lines = [line for line in lines if line.code]

    def spec(self) -> Spec:
        head = self._lines[0].code.split() if self._lines else []
        if len(head) < 2 or head[0] != "concept":
            raise BadSpec("a spec begins with `concept Name`")
        name = re.match(r"[A-Za-z0-9_]*", head[1])
        spec = Spec(name.group() if name else "")
        section, margin, last, at = "", None, None, 1
        while at < len(self._lines):
            line = self._lines[at]
            at += 1
            word = line.code.split()[0]
            if line.indent == 0:
                if word not in _SECTIONS:
                    raise BadSpec(f"expected a section, found `{word}`")
                section, margin, last = word, None, None
                if section == "purpose":
                    spec.purpose = line.code[len(word) :].strip()
            elif section == "purpose":
                spec.purpose = f"{spec.purpose} {line.code}".strip()
            elif section in ("actions", "queries"):
                margin = line.indent if margin is None else margin
                if line.indent > margin and not line.code.startswith(":"):
                    if isinstance(last, Action) and word.rstrip(":") == "effects":
                        last.has_effects = True
                    continue
                code = line.code
                while at < len(self._lines) and self._lines[at].indent > 0:
                    more = self._lines[at].code
                    if not more.startswith(":") and _open_brackets(code) <= 0:
                        break
                    code, at = f"{code} {more}", at + 1
                last = _add(spec, section, _Signature(code))
        return spec


class _Line:
    def __init__(self, raw: str) -> None:
        self.indent = len(raw) - len(raw.lstrip())
        text = raw.strip()
        end, in_text = len(text), False
        for at, char in enumerate(text):
            if char == '"' and (at == 0 or text[at - 1] != "\\"):
                in_text = not in_text
            elif not in_text and text.startswith("//", at):
                end = at
                break
        self.code = text[:end].rstrip()


def _open_brackets(code: str) -> int:
    code = re.sub(r'"(?:[^"\\]|\\.)*"', "", code)
    return sum(code.count(c) for c in "({") - sum(code.count(c) for c in ")}")


def _add(spec: Spec, section: str, signature: _Signature) -> Action | None:
    name, given, output, rows = signature.parts()
    if section == "queries":
        if output is None:
            raise BadSpec(f"the query `{name}` has no output")
        spec.queries[name] = Query(name, given, output, rows)
        return None
    action = spec.actions.setdefault(name, Action(name, given))
    output = output or Params()
    if output.names() == {"error"}:
        action.can_fail = True
    else:
        action.success = output
    return action


class _Signature:
    """A recursive descent parser of `name (a: T, b?: U, ...) : (c: V)*`."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(code.rstrip()):
            found = _TOKEN.match(code, at)
            if not found or not found.lastgroup:
                raise BadSpec(f"cannot read the signature `{code}`")
            self._tokens.append((found.lastgroup, found.group(found.lastgroup)))
            at = found.end()
        self._tokens.append(("end", ""))

    def parts(self) -> tuple[str, Params, Params | None, str]:
        """Name, input, output and number of rows."""
        name, given = self._word(), self._params()
        output, rows = None, "one"
        if self._take(":"):
            output = self._params()
            rows = "atMostOne" if self._take("?") else "any" if self._take("*") else "one"
        self._expect("")
        return name, given, output, rows

    def _peek(self) -> str:
        return self._tokens[0][1]

    def _take(self, text: str) -> bool:
        if self._peek() == text:
            self._tokens.pop(0)
            return True
        return False

    def _expect(self, text: str) -> None:
        if self._tokens[0] != ("end", "") and not self._take(text) or (text and not self._tokens):
            found = self._peek()
            raise BadSpec(f"expected `{text}`, found `{found}` in the signature `{self._code}`")

    def _word(self) -> str:
        kind, text = self._tokens.pop(0)
        if kind != "word":
            raise BadSpec(f"expected a name, found `{text}` in the signature `{self._code}`")
        return text

    def _params(self) -> Params:
        found = Params()
        self._expect("(")
        while not self._take(")"):
            if self._take("..."):
                found.open = True
            else:
                found.params.append(Param(*self._member()))
            if not self._take(",") and self._peek() != ")":
                raise BadSpec(f"expected `,` or `)` in the signature `{self._code}`")
        return found

    def _member(self) -> tuple[str, bool, Type]:
        name, optional = self._word(), self._take("?")
        self._expect(":")
        return name, optional, self._type()

    def _type(self) -> Type:
        literals: list[str] = []
        found: list[Type] = []
        null = False
        while True:
            kind, text = self._tokens[0]
            if kind == "text":
                self._tokens.pop(0)
                literals.append(json.loads(text))
            elif text == "null":
                self._tokens.pop(0)
                null = True
            else:
                found.append(self._single())
            if not self._take("|"):
                break
        if literals:
            found.append({"enum": literals})
        if len(found) != 1:
            raise BadSpec(f"a type cannot be read in the signature `{self._code}`")
        already = found[0] == "any" or (isinstance(found[0], dict) and "nullable" in found[0])
        return {"nullable": found[0]} if null and not already else found[0]

    def _single(self) -> Type:
        if self._take("("):
            found = self._type()
            self._expect(")")
            return found
        if self._take("{"):
            return {"record": self._fields()}
        word = self._word()
        if word in ("seq", "set"):
            self._expect("of")
            kind, text = self._tokens[0]
            if kind == "text":
                self._tokens.pop(0)
                return {word: {"enum": [json.loads(text)]}}
            return {word: self._single()}
        if word in ("String", "Secret") and self._take("("):
            kind, text = self._tokens.pop(0)
            self._expect(")")
            return {f"bounded{word}": int(text)}
        return word.lower() if word in _BUILT_IN else {"id": word}

    def _fields(self) -> list[Any]:
        fields: list[Any] = []
        while not self._take("}"):
            name, optional, kind = self._member()
            entry: dict[str, Any] = {"name": name}
            if optional:
                entry["optional"] = True
            fields.append(entry | {"type": kind})
            if not self._take(",") and self._peek() != "}":
                raise BadSpec(f"expected `,` or `}}` in the signature `{self._code}`")
        return fields
