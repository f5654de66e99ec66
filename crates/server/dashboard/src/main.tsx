// Starts the page.

import { render } from 'preact';
import { watchAddress } from './state/address.ts';
import { start, watchPreferences, watchWaiting } from './state/app.ts';
import { watchAttention } from './state/attention.ts';
import { Shell } from './ui/shell.tsx';

watchPreferences();
watchAddress();
watchAttention();
watchWaiting();
void start();
render(<Shell />, document.getElementById('app')!);
