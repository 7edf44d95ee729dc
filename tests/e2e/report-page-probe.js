/*
 * Uses the page of `stagecoach report` as a reader would, from within: appended
 * to a copy of it by test-report.sh. What it finds it leaves as lines of TAP
 * without numbers in an element of its own.
 */
'use strict';
(() => {
const lines = [];
const check = (name, good, detail = '') =>
	lines.push((good ? 'ok' : 'not ok') + ' - ' + name +
		(good ? '' : ' # ' + detail));
const all = selector => [...document.querySelectorAll(selector)];
const tip = document.getElementById('tip');
const spoken = document.getElementById('spoken');
const data = JSON.parse(document.getElementById('data').textContent);
const key = (element, name) => element.dispatchEvent(
	new KeyboardEvent('keydown', {key: name, bubbles: true}));
const shown = element => getComputedStyle(element).display !== 'none';

check('five charts', all('.chart').length === 5,
	`${all('.chart').length} of them`);
check('their curves are drawn', all('.chart .mean.light').every(path =>
	path.getBoundingClientRect().width > 200));
check('nothing is wider than the window',
	document.documentElement.scrollWidth <= innerWidth,
	`${document.documentElement.scrollWidth} > ${innerWidth}`);
check('every section has a heading', all('section').every(section =>
	document.getElementById(section.getAttribute('aria-labelledby'))));
check('every picture has a name', all('[role=img]').every(picture =>
	picture.getAttribute('aria-label').length > 20));
check('identifiers are used once', new Set(all('[id]').map(item => item.id))
	.size === all('[id]').length);

/* ---- keys and the pointer ---- */

const plot = document.querySelector('.plot');
const loss = data.charts.loss;
const last = loss.step.length - 1;

check('nothing is told before one asks', tip.hidden);
key(plot, 'End');
check('End tells of the last step', !tip.hidden &&
	tip.textContent.includes('Step ' + loss.step[last]), tip.textContent);
check('and says it', spoken.textContent.startsWith('Training loss, step ' +
	loss.step[last]), spoken.textContent);
check('with its loss', spoken.textContent.includes(
	'value ' + Number(loss.low[last].toPrecision(5))), spoken.textContent);
key(plot, 'ArrowLeft');
check('an arrow tells of the one before',
	spoken.textContent.includes('step ' + loss.step[last - 1]));
key(plot, 'Home');
check('Home of the first', spoken.textContent.includes(
	'step ' + loss.step[0]));
check('a mark stands in every chart', all('.mark').every(mark =>
	!mark.hidden));
const mark = plot.querySelector('.mark').getBoundingClientRect();
const box = plot.getBoundingClientRect();
check('within it', mark.top >= box.top - 5 && mark.bottom <= box.bottom + 5);
key(plot, 'Escape');
check('Escape puts it away', tip.hidden);
plot.dispatchEvent(new PointerEvent('pointermove', {bubbles: true,
	clientX: box.left + box.width / 2, clientY: box.top + 20}));
check('so does the pointer what it has told of', !tip.hidden);
plot.dispatchEvent(new PointerEvent('pointerleave'));
check('when it leaves', tip.hidden);

/* ---- smoothing and colours ---- */

const light = plot.querySelector('.light');
const strong = plot.querySelector('.strong');
check('light smoothing at first', shown(light) && !shown(strong));
document.getElementById('smooth-strong').click();
check('strong when asked for', !shown(light) && shown(strong));
document.getElementById('smooth-none').click();
check('and none', !shown(light) && !shown(strong));
const background = () => getComputedStyle(document.body).backgroundColor;
const [system, day, night] = all('#theme button');
night.click();
const dark = background();
day.click();
check('the colours can be chosen', dark !== background() &&
	day.getAttribute('aria-pressed') === 'true');
/* The browser remembers it for the pages to come. */
system.click();

const report = document.createElement('pre');
report.id = 'probe';
report.textContent = '\n' + lines.join('\n') + '\n';
document.body.append(report);
})();
