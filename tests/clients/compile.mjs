// Compiles a folder: `compile.mjs FOLDER LIST_OF_OPTIONS`. It prints a JSON list with the compiler's
// mistakes for each of the options, and writes modules to `built/` that Node.js loads without a bundler.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import ts from 'typescript';

const [folder, list] = process.argv.slice(2);
const sources = new Map();

function mistakes(compilerOptions) {
  const json = { compilerOptions: { ...compilerOptions, noEmit: true }, include: ['src', 'codegen.ts'] };
  const { fileNames, options, errors } = ts.parseJsonConfigFileContent(json, ts.sys, folder);
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile;
  // The files are parsed once. No option that differs changes how.
  host.getSourceFile = (name, ...rest) => {
    if (!sources.has(name)) {
      sources.set(name, read(name, ...rest));
    }
    return sources.get(name);
  };
  const program = ts.createProgram(fileNames, options, host);
  return [...errors, ...ts.getPreEmitDiagnostics(program)].map(mistake);
}

function mistake({ file, start, code, messageText }) {
  return {
    file: file ? relative(folder, file.fileName) : null,
    place: file ? file.text.slice(start).match(/^\w*/)[0] : '',
    message: `TS${code}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`,
  };
}

function build() {
  const compilerOptions = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 };
  for (const name of ts.sys.readDirectory(join(folder, 'src'), ['.ts'])) {
    const { outputText } = ts.transpileModule(readFileSync(name, 'utf8'), { compilerOptions });
    const built = join(folder, 'built', relative(join(folder, 'src'), name)).replace(/\.ts$/, '.js');
    mkdirSync(dirname(built), { recursive: true });
    writeFileSync(built, outputText);
  }
  writeFileSync(join(folder, 'built', 'package.json'), '{ "type": "commonjs" }');
}

const found = JSON.parse(list).map(mistakes);
build();
console.log(JSON.stringify(found));
