// A link to a page of ours: an ordinary one, so that it opens in another tab too, which here leads there without
// loading the page anew.

import type { ComponentChildren } from 'preact';
import { go } from '../state/address.ts';

type Props = {
  to: string;
  children: ComponentChildren;
  class?: string;
  title?: string;
  tabIndex?: number;
  'aria-current'?: 'page' | undefined;
  'aria-label'?: string;
};

export function Link({ to, children, ...rest }: Props) {
  const follow = (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    go(to);
  };
  return <a href={to} onClick={follow} {...rest}>{children}</a>;
}
