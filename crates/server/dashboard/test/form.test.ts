import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerOf, fieldsOf } from '../src/state/form.ts';

const PAYLOAD = {
  message: 'Where to?',
  requestedSchema: {
    type: 'object',
    properties: {
      city: { type: 'string', title: 'City', description: 'Where it goes' },
      count: { type: 'integer', default: 2 },
      price: { type: 'number' },
      isUrgent: { type: 'boolean', default: true },
      colour: { type: 'string', enum: ['red', 'blue'] },
    },
    required: ['city', 'colour'],
  },
};

test('a schema becomes fields, and what is filled in an answer', () => {
  const fields = fieldsOf(PAYLOAD);
  assert.deepEqual(fields.map(({ label, kind, isNeeded, initial }) => [label, kind, isNeeded, initial]), [
    ['City', 'text', true, ''], ['count', 'number', false, '2'], ['price', 'number', false, ''],
    ['isUrgent', 'yes-no', false, 'true'], ['colour', 'choice', true, ''],
  ]);
  const answer = answerOf(fields, { city: 'Ulm', count: '3', price: '', isUrgent: 'true', colour: 'blue' });
  assert.deepEqual(JSON.parse(answer), { city: 'Ulm', count: 3, isUrgent: true, colour: 'blue' });
});

test('a schema that no form can show is left to the JSON', () => {
  for (const schema of [null, 'x', { type: 'array' }, { type: 'object', properties: { a: { type: 'object' } } }, { type: 'object', properties: { a: null } }]) {
    assert.deepEqual(fieldsOf({ schema }), [], JSON.stringify(schema));
  }
  assert.deepEqual(fieldsOf('text'), []);
});

test('a name like that of a prototype is a name', () => {
  const payload = JSON.parse('{"schema":{"type":"object","properties":{"__proto__":{"type":"string"}}}}');
  assert.equal(answerOf(fieldsOf(payload), { ['__proto__']: 'x' }), '{"__proto__":"x"}');
});
