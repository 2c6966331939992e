"""Random GraphQL documents with variables, most of them valid."""

import json
import re
from collections.abc import Mapping
from random import Random
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
)

SCALARS: Mapping[str, list[Any]] = {
    "String": ["braze", "", 'a\n"b"', "\ud800"],
    "ID": ["019a3f5e-7c00-7d11-8a22-0123456789ab", "42", 42],
    "Int": [0, 1, 20, 100, 2**31],
    "Boolean": [True, False],
    "DateTime": ["2026-01-31T12:00:00Z", "now"],
    "_Any": [
        {"__typename": "Campaign", "account": "braze", "id": "1"},
        {"__typename": "Campaign", "account": "braze", "id": "22"},
        {"__typename": "Duplication", "id": "019a3f5e-7c00-7d11-8a22-0123456789ab"},
        {"__typename": "Account", "id": "1"},
    ],
}
JUNK = [None, 1, -1.5, "junk", True, [], ["a", None], {}, {"name": "x"}, 2**53]


class Documents:
    """Documents that one random number decides. `mistakes` is how likely each mistake is."""

    def __init__(self, schema: GraphQLSchema, random: Random, mistakes: float) -> None:
        self._schema = schema
        self._random = random
        self._mistakes = mistakes
        self._variables: dict[str, GraphQLInputType] = {}
        self._declared: list[str] = []
        self._fragments: list[str] = []
        self._has_directives = random.random() < 0.1
        self._is_constant = False

    def document(self) -> str:
        """Return the text of a document with one operation."""
        is_mutation = self._chance(0.4)
        root = self._schema.mutation_type if is_mutation else self._schema.query_type
        assert root is not None
        names = [name for name in root.fields if name != "_service"]
        number = 1 if self._chance(0.8) else 2
        fields = [self._field(root, self._random.choice(names), 5) for _ in range(number)]
        body = self._wrapped(root.name, " ".join(fields))
        declared = f"({' '.join(self._declared)})" if self._declared else ""
        operation = "mutation" if is_mutation else "query"
        text = " ".join([f"{operation} Random{declared} {{ {body} }}", *self._fragments])
        return self._misspelled(text) if self._chance(self._mistakes) else text

    def variables(self) -> dict[str, Any]:
        """Return values for the variables of the document, different ones each time."""
        return {
            name: self._value(type_)
            for name, type_ in self._variables.items()
            if isinstance(type_, GraphQLNonNull) or self._chance(0.8)
        }

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _misspelled(self, text: str) -> str:
        tokens = re.findall(r'"[^"]*"|\.\.\.|\w+|\S', text)
        place = self._random.randrange(len(tokens))
        tokens[place] = self._random.choice(["", "wrong", "$x", "}", tokens[place] * 2])
        return " ".join(tokens)

    def _selection(self, output_type: GraphQLOutputType, depth: int) -> str:
        type_ = get_named_type(output_type)
        if is_leaf_type(type_):
            return ""
        if isinstance(type_, GraphQLUnionType):
            parts = [
                f"... on {member.name} {self._selection(member, depth)}" for member in type_.types
            ]
            return f"{{ __typename {' '.join(self._random.sample(parts, 1 + self._chance(0.7)))} }}"
        assert isinstance(type_, GraphQLObjectType)
        names = ["__typename", *type_.fields] * (1 if self._chance(0.9) else 2)
        chosen = self._random.sample(names, self._random.randint(1, min(8, len(names))))
        fields = [self._field(type_, name, depth - 1) for name in chosen]
        fields = [each for each in fields if each] or ["__typename"]
        place = self._random.randrange(len(fields))
        fields[place:] = [self._wrapped(type_.name, " ".join(fields[place:]))]
        return f"{{ {' '.join(fields)} }}"

    def _wrapped(self, type_name: str, fields: str) -> str:
        """Return the fields as they are, or in a fragment."""
        match self._random.randrange(8):
            case 0:
                return f"...{self._directive()} {{ {fields} }}"
            case 1:
                return f"... on {type_name} {self._directive()} {{ {fields} }}"
            case 2:
                name = f"F{len(self._fragments)}"
                self._fragments.append(f"fragment {name} on {type_name} {{ {fields} }}")
                return f"...{name} {self._directive()} ...{name}"
            case _:
                return fields

    def _field(self, type_: GraphQLObjectType, name: str, depth: int) -> str:
        alias = f"a{self._random.randrange(50)}: " if self._chance(0.1) else ""
        if name == "__typename":
            return f"{alias}__typename {self._directive()}"
        field = type_.fields[name]
        if depth <= 0 and not is_leaf_type(get_named_type(field.type)):
            return ""
        arguments = self._arguments(field)
        return f"{alias}{name}{arguments} {self._directive()} {self._selection(field.type, depth)}"

    def _directive(self) -> str:
        if not self._has_directives or self._chance(0.7):
            return ""
        condition = self._random.choice(["true", "false", ""]) or self._variable("Boolean!")
        return f"@{self._random.choice(['skip', 'include'])}(if: {condition})"

    def _arguments(self, field: GraphQLField) -> str:
        given = [
            f"{name}: {self._argument(argument.type)}"
            for name, argument in field.args.items()
            if self._is_given(argument)
        ]
        return f"({', '.join(given)})" if given else ""

    def _is_given(self, definition: GraphQLArgument | GraphQLInputField) -> bool:
        is_required = isinstance(definition.type, GraphQLNonNull) and definition.default is None
        return self._chance(1 - self._mistakes / 5 if is_required else 0.4)

    def _argument(self, type_: GraphQLInputType) -> str:
        if self._chance(0.6):
            return self._variable(str(type_))
        return self._literal(type_, self._value(type_))

    def _variable(self, type_name: str) -> str:
        """Declare a variable, and return it."""
        if self._chance(self._mistakes):
            type_name = self._random.choice([type_name.removesuffix("!"), "String", "Int!"])
        name = f"v{len(self._variables)}"
        type_ = self._type(type_name)
        self._variables[name] = type_
        default = ""
        if self._chance(0.1):
            self._is_constant = True
            default = f" = {self._literal(type_, self._value(type_))}"
            self._is_constant = False
        self._declared.append(f"${name}: {type_name}{default}")
        return f"${name}"

    def _type(self, name: str) -> Any:
        if name.endswith("!"):
            return GraphQLNonNull(self._type(name[:-1]))
        if name.startswith("["):
            return GraphQLList(self._type(name[1:-1]))
        return self._schema.type_map[name]

    def _value(self, type_: GraphQLInputType) -> Any:
        """Return a value as JSON has it."""
        if self._chance(self._mistakes / 5):
            return self._random.choice(JUNK)
        if isinstance(type_, GraphQLNonNull):
            return self._value(type_.of_type)
        if isinstance(type_, GraphQLList):
            items = [self._value(type_.of_type) for _ in range(self._random.randint(1, 4))]
            return items[0] if self._chance(0.1) else items[1:]
        if isinstance(type_, GraphQLEnumType):
            return self._random.choice(list(type_.values))
        if isinstance(type_, GraphQLInputObjectType):
            return self._object(type_)
        return self._random.choice(SCALARS[type_.name])

    def _object(self, type_: GraphQLInputObjectType) -> dict[str, Any]:
        names = [name for name, field in type_.fields.items() if self._is_given(field)]
        if type_.is_one_of:
            number = 2 if self._chance(self._mistakes) else 1
            names = self._random.sample(list(type_.fields), number)
        return {name: self._value(type_.fields[name].type) for name in names}

    def _literal(self, type_: Any, value: Any) -> str:
        if isinstance(type_, GraphQLNonNull):
            return self._literal(type_.of_type, value)
        if isinstance(type_, GraphQLList) and isinstance(value, list):
            return f"[{', '.join(self._literal(type_.of_type, item) for item in value)}]"
        if isinstance(value, dict):
            fields = type_.fields if isinstance(type_, GraphQLInputObjectType) else {}
            members = [
                f"{name}: {self._member(fields[name].type if name in fields else None, item)}"
                for name, item in value.items()
            ]
            return f"{{ {', '.join(members)} }}"
        if isinstance(type_, GraphQLEnumType) and isinstance(value, str):
            return value
        if isinstance(value, list):
            return f"[{', '.join(self._literal(None, item) for item in value)}]"
        return json.dumps(value, ensure_ascii=False).replace("\ud800", "")

    def _member(self, type_: Any, value: Any) -> str:
        if type_ is None or self._is_constant or self._chance(0.7):
            return self._literal(type_, value)
        # A member of a @oneOf input must not be null, and any other may be declared so.
        return self._variable(str(type_).removesuffix("!") + "!")
