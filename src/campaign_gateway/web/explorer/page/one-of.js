// Marks a @oneOf input with two members in Variables. GraphiQL itself marks it in the operation only.
import { useGraphiQL, useMonaco } from '@graphiql/react';
import { coerceInputValue, isInputType, parse, typeFromAST } from 'graphql';
import { useEffect } from 'react';

const OWNER = 'one-of';

export function useOneOfMarks(operation, variables) {
  const schema = useGraphiQL((state) => state.schema);
  const editor = useGraphiQL((state) => state.variableEditor);
  const monaco = useMonaco((state) => state.monaco);
  useEffect(() => {
    const model = editor?.getModel();
    if (!schema || !model || !monaco) {
      return;
    }
    const markers = wrongMembers(schema, operation, variables).flatMap(({ path, message }) =>
      placesOf(model, path).map((range) => ({ ...range, message, severity: monaco.MarkerSeverity.Error })),
    );
    monaco.editor.setModelMarkers(model, OWNER, markers);
  }, [schema, editor, monaco, operation, variables]);
}

/** Returns the variables' @oneOf inputs that do not have exactly one member. */
function wrongMembers(schema, operation, variables) {
  const found = [];
  try {
    const values = JSON.parse(variables);
    const definitions = parse(operation).definitions.flatMap((node) => node.variableDefinitions ?? []);
    for (const { variable, type } of definitions) {
      const name = variable.name.value;
      const inputType = typeFromAST(schema, type);
      if (isInputType(inputType) && values[name] != null) {
        coerceInputValue(values[name], inputType, (path, _value, { message }) => {
          if (/OneOf/i.test(message)) {
            found.push({ path: [name, ...path], message });
          }
        });
      }
    }
  } catch {
    // Half-written text: the editors mark their own errors.
  }
  return found;
}

/** The key in front of the wrong object. A name that occurs twice is marked twice. */
function placesOf(model, path) {
  const name = path.findLast((part) => typeof part === 'string');
  return model.findMatches(`"${name}"\\s*:`, false, true, true, null, false).map(({ range }) => range);
}
