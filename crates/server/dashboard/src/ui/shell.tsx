// What is around every page: where one is, where one can go, who looks.

import { useEffect, useRef, useState } from 'preact/hooks';
import { address, go, href } from '../state/address.ts';
import { hasShortcuts, leave, session, sessionProblem, start, theme, waiting, type Theme } from '../state/app.ts';
import { Help } from './help.tsx';
import { useKeys } from './keys.ts';
import { Link } from './link.tsx';
import { LoginPage } from './login.tsx';
import { forgetNow, NowPage } from './now.tsx';
import { RunPage } from './run.tsx';
import { RunsPage } from './runs.tsx';
import { TaskPage } from './task.tsx';
import { countText } from './time.tsx';
import { WaitingPage } from './waiting.tsx';

const PAGES: Record<string, () => preact.JSX.Element> = {
  '/': NowPage, '/task': TaskPage, '/waiting': WaitingPage, '/runs': RunsPage, '/run': RunPage, '/login': LoginPage,
};
const TITLES: Record<string, string> = { '/waiting': 'Needs you', '/runs': 'Runs', '/run': 'Run', '/login': 'Log in' };

export function Shell() {
  const { path } = address.value;
  const [isHelpOpen, openHelp] = useState(false);
  const Page = PAGES[path] ?? NowPage;
  useKeys({
    '?': () => openHelp(true),
    n: () => go(href('/')),
    w: () => go(href('/waiting')),
    r: () => go(href('/runs')),
  }, hasShortcuts.value && session.value !== null);
  useTitle(path);
  useFocusOnPage(path);
  return (
    <>
      <a class="skip" href="#content">To the content</a>
      <header class="shell">
        <Link to={href('/')} class="brand" aria-label="Sidestream, now"><img src="/assets/icon.svg" alt="" width="22" height="22" /><span>Sidestream</span></Link>
        {session.value && <Navigation path={path} />}
        <div class="tools">
          {session.value && <Who />}
          <ThemeButton />
          <button type="button" class="quiet round" aria-label="Keys and help" onClick={() => openHelp(true)}>?</button>
        </div>
      </header>
      {path === '/login' ? <LoginPage /> : session.value ? <Page /> : <Unknown />}
      <Help isOpen={isHelpOpen} onClose={() => openHelp(false)} />
    </>
  );
}

function Navigation({ path }: { path: string }) {
  const count = waiting.value ?? 0;
  const current = (paths: readonly string[]) => (paths.includes(path) ? 'page' as const : undefined);
  return (
    <nav aria-label="Pages">
      <Link to={href('/')} aria-current={current(['/'])}>Now</Link>
      <Link to={href('/waiting')} aria-current={current(['/waiting'])}>
        Needs you{count > 0 && <b class="badge"> {countText(count)}</b>}
      </Link>
      <Link to={href('/runs')} aria-current={current(['/runs', '/run'])}>Runs</Link>
    </nav>
  );
}

function Who() {
  const { namespace, role, loggedIn } = session.value!;
  return (
    <>
      {(namespace !== 'default' || loggedIn) && (
        <span class="who faint" title={`namespace ${namespace}, role ${role}`}>{namespace.slice(0, 40)}{loggedIn && ` · ${role}`}</span>
      )}
      {loggedIn && (
        <button type="button" class="quiet" onClick={() => { forgetNow(); void leave(); }}>Log out</button>
      )}
    </>
  );
}

const THEMES: readonly Theme[] = ['system', 'light', 'dark'];
const THEME_SHAPES: Record<Theme, preact.JSX.Element> = {
  system: <><circle cx="8" cy="8" r="5.5" fill="none" /><path d="M8 2.5a5.5 5.5 0 0 1 0 11z" fill="currentColor" /></>,
  light: <><circle cx="8" cy="8" r="3" fill="none" /><path d="M8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6M3.4 3.4l1.1 1.1M11.5 11.5l1.1 1.1M12.6 3.4l-1.1 1.1M4.5 11.5l-1.1 1.1" /></>,
  dark: <path d="M13 9.8A5.6 5.6 0 0 1 6.2 3 5.6 5.6 0 1 0 13 9.8z" fill="none" />,
};

function ThemeButton() {
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!;
  return (
    <button type="button" class="quiet round" aria-label={`Theme: ${theme.value}`} title={`Theme: ${theme.value}`} onClick={() => (theme.value = next)}>
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" stroke="currentColor" stroke-width="1.5" stroke-linecap="round">
        {THEME_SHAPES[theme.value]}
      </svg>
    </button>
  );
}

/** The server was not reached, or is asked for the first time. */
function Unknown() {
  const problem = sessionProblem.value;
  useEffect(() => {
    if (problem === null) return;
    const timer = setInterval(() => void start(), 2_000);
    return () => clearInterval(timer);
  }, [problem]);
  return (
    <main id="content" tabIndex={-1} class="empty" aria-labelledby="title">
      <h1 id="title" class="hidden">Sidestream</h1>
      <p role="status">{problem === null ? 'Loading…' : `${problem}. Trying again.`}</p>
    </main>
  );
}

function useTitle(path: string): void {
  const count = waiting.value ?? 0;
  useEffect(() => {
    // A task's page names itself.
    if (path === '/task') return;
    const page = TITLES[path] === undefined ? '' : `${TITLES[path]} · `;
    document.title = `${count > 0 && path !== '/login' ? `(${count}) ` : ''}${page}Sidestream`;
  }, [path, count]);
}

/** Who goes to another page without loading it anew is told where they are: by the focus. */
function useFocusOnPage(path: string): void {
  const known = useRef(path);
  useEffect(() => {
    if (known.current === path) return;
    known.current = path;
    if (document.activeElement?.closest('input, textarea, dialog')) return;
    document.getElementById('content')?.focus({ preventScroll: true });
  }, [path]);
}
