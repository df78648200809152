// Parses PowerShell files with tree-sitter's grammar and prints what is in them, as JSON: { FILE: facts }. What is right and
// wrong is for the Go tests to say.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Language, Parser } from 'web-tree-sitter';

const grammar = fileURLToPath(import.meta.resolve('tree-sitter-powershell/tree-sitter-powershell.wasm'));

const at = (node, text = node.text) => ({ line: node.startPosition.row + 1, text: text.slice(0, 200) });
const child = (node, type) => node?.namedChildren.find((c) => c.type === type);
const all = (node, ...types) => node.descendantsOfType(types);
const unquote = (text) => text.replace(/^(['"])(.*)\1$/s, '$2');

// An attribute is [Name(values, Key = value)], a type is [Name].
function attribute(node) {
  const name = child(node, 'attribute_name');
  if (!name) {
    return { type: node.text.slice(1, -1) };
  }
  const fact = { name: name.text, values: [], named: {} };
  for (const argument of all(node, 'attribute_argument')) {
    const key = child(argument, 'simple_name');
    if (key) {
      fact.named[key.text] = unquote(argument.namedChildren.at(-1).text);
    } else {
      fact.values.push(unquote(argument.text));
    }
  }
  return fact;
}

function parameter(node) {
  const attributes = (child(node, 'attribute_list')?.namedChildren ?? []).map(attribute);
  return {
    name: child(node, 'variable').text.slice(1),
    type: attributes.find((a) => a.type)?.type ?? '',
    attributes: attributes.filter((a) => a.name),
    default: child(node, 'script_parameter_default')?.namedChildren.at(-1).text ?? '',
  };
}

// The variables that a piece of code sets, and those that it names.
function variables(node) {
  const set = all(node, 'left_assignment_expression')
    .map((n) => n.text.match(/^(?:\[[^\]]+\]\s*)?\$([\w:]+)$/)?.[1])
    .filter(Boolean);
  const loops = all(node, 'foreach_statement').map((n) => child(n, 'variable').text.slice(1));
  return { set: [...set, ...loops], named: all(node, 'variable').map((n) => at(n, n.text.replace(/^[$@]\{?|\}$/g, ''))) };
}

function functionFacts(node) {
  const block = child(node, 'script_block');
  const parameters = child(block, 'param_block');
  return {
    ...at(node, child(node, 'function_name').text),
    help: node.namedChildren.find((c) => c.type === 'comment' && c.text.startsWith('<#'))?.text ?? '',
    variables: variables(block),
    attributes: (child(parameters, 'attribute_list')?.namedChildren ?? []).map(attribute),
    parameters: parameters ? all(parameters, 'script_parameter').map(parameter) : [],
  };
}

function command(node) {
  const name = child(node, 'command_name') ?? child(child(node, 'command_name_expr'), 'command_name');
  const inside = (type) => all(node, type).map((n) => n.text);
  const own = (child(node, 'command_elements')?.namedChildren ?? []).filter((c) => c.type === 'command_parameter');
  return {
    ...at(node, name?.text ?? ''),
    source: node.text,
    parameters: inside('command_parameter'),
    variables: inside('variable'),
    own: own.map((n) => n.text),
  };
}

// A hashtable's entries, each with the strings in it.
function table(node) {
  return Object.fromEntries(
    all(node, 'hash_entry').map((entry) => [
      entry.namedChildren[0].text,
      all(entry, 'string_literal').map((s) => unquote(s.text)),
    ]),
  );
}

// What is used of .NET: Type::Member and, of objects, .Method, both with the number of arguments when it is a call.
function members(root) {
  return all(root, 'invokation_expression', 'member_access').flatMap((node) => {
    const call = node.type === 'invokation_expression';
    const type = child(node, 'type_literal');
    if (!call && !type) {
      return [];
    }
    const list = child(child(node, 'argument_list'), 'argument_expression_list');
    const count = call ? `(${list?.namedChildren.length ?? 0})` : '';
    const owner = type ? `${type.text.slice(1, -1)}::` : '.';
    return [at(node, `${owner}${child(node, 'member_name')?.text ?? ''}${count}`)];
  });
}

function broken(root) {
  const found = [];
  const walk = (node) => {
    if (node.isError || node.isMissing) {
      found.push(at(node, `${node.isMissing ? 'missing ' : ''}${node.type}: ${node.text}`));
    }
    node.children.forEach(walk);
  };
  walk(root);
  return found;
}

await Parser.init();
const parser = new Parser();
parser.setLanguage(await Language.load(grammar));

const report = {};
for (const file of process.argv.slice(2)) {
  const root = parser.parse(readFileSync(file, 'utf8')).rootNode;
  report[file] = {
    broken: broken(root),
    variables: variables(root),
    functions: all(root, 'function_statement').map(functionFacts),
    commands: all(root, 'command').map(command),
    strings: all(root, 'string_literal').map((n) => at(n, unquote(n.text))),
    members: members(root),
    chains: all(root, 'pipeline_chain_tail').map((n) => at(n)),
    // -f directly among a method's arguments: its operands would become arguments.
    looseFormats: all(root, 'format_argument_expression').filter((n) => n.childCount > 1).map((n) => at(n)),
    table: file.endsWith('.psd1') ? table(root) : {},
  };
}
console.log(JSON.stringify(report));
