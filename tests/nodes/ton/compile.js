// Compiles the FunC sources beside this file to base64 bags of cells, as JSON on stdout.
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const { compileFunc } = require('@ton-community/func-js');

async function main() {
  const made = {};
  for (const file of fs.readdirSync(__dirname).filter((name) => name.endsWith('.fc')).sort()) {
    const content = fs.readFileSync(path.join(__dirname, file), 'utf8');
    const result = await compileFunc({ targets: [file], sources: [{ filename: file, content }] });
    if (result.status === 'error') throw new Error(`${file}: ${result.message}`);
    made[file.replace('.fc', '')] = result.codeBoc;
  }
  console.log(JSON.stringify(made));
}

main().catch((error) => {
  console.error(String(error.message || error));
  process.exitCode = 1;
});
