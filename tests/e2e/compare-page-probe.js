/*
 * Uses the page of `schedule compare` as a reader would, from within: appended
 * to a copy of it by test-compare-page.sh. What it finds it leaves as lines of
 * TAP without numbers in an element of its own.
 */
'use strict';
(async () => {
const lines = [];
const check = (name, good, detail = '') =>
	lines.push((good ? 'ok' : 'not ok') + ' - ' + name +
		(good ? '' : ' # ' + detail));
const all = (selector, under = document) =>
	[...under.querySelectorAll(selector)];
const comparison =
	JSON.parse(document.getElementById('comparison').textContent);
const shown = comparison.schedules.filter(item => !item.refused);
const refused = comparison.schedules.filter(item => item.refused);
/* Which is a timer here: see with_probe(). */
const frames = () => new Promise(requestAnimationFrame);

/* All views are drawn when the page says so; it draws a few a frame. */
async function settle() {
	await frames();
	while (!document.documentElement.dataset.drawn)
		await frames();
}

/* By way of a canvas that is for reading, or the browser complains. */
function pixels(canvas) {
	const {width, height} = canvas;
	const copy = new OffscreenCanvas(width, height)
		.getContext('2d', {willReadFrequently: true});

	copy.drawImage(canvas, 0, 0);
	return copy.getImageData(0, 0, width, height).data;
}

function coloursOf(canvas) {
	const data = pixels(canvas);
	const colours = new Set();

	for (let i = 0; i < data.length; i += 4)
		if (data[i + 3] === 255)
			colours.add(data[i] << 16 | data[i + 1] << 8 |
				data[i + 2]);
	return colours;
}

const colourOf = name => parseInt(getComputedStyle(document.documentElement)
	.getPropertyValue('--' + name).trim().slice(1), 16);
const press = label => all('button').find(button =>
	button.textContent === label).click();
const picture = canvas => canvas.toDataURL();
const sectionOf = schedule => all('[data-schedule]').find(section =>
	section.dataset.schedule === schedule.name);

function point(canvas, share, y) {
	const box = canvas.getBoundingClientRect();

	canvas.dispatchEvent(new PointerEvent('pointermove', {bubbles: true,
		clientX: box.left + share * box.width, clientY: box.top + y}));
}

function checkSections() {
	const names = all('[data-schedule]').map(item => item.dataset.schedule);
	const wanted = shown.map(item => item.name);

	check('every schedule has its section',
		names.sort().join() === wanted.sort().join(), names.join());
	for (const schedule of shown) {
		const variants = all('figure', sectionOf(schedule))
			.map(figure => figure.dataset.variant).join();

		check(`${schedule.title}: predicted above measured`,
			variants === (schedule.measured
				? 'predicted,measured' : 'predicted'),
			variants);
	}
}

/* An F of the first chunk is in sight wherever the whole step is. */
function checkDrawings() {
	const forward = colourOf('f');
	const few = all('figure canvas').filter(canvas =>
		coloursOf(canvas).size < 8 || !coloursOf(canvas).has(forward));

	check('every canvas has a picture on it', few.length === 0,
		few.map(canvas => canvas.getAttribute('aria-label')).join());
	check('every canvas says what it shows', all('figure canvas').every(
		canvas => canvas.getAttribute('aria-label').length > 20));
}

function checkTable() {
	const rows = all('tbody tr');
	const text = rows.map(row => row.textContent).join('\n');

	check('the table has every schedule',
		rows.length === comparison.schedules.length &&
		comparison.schedules.every(item => text.includes(item.name)));
	check('the refused ones say why', refused.every(item =>
		text.includes('refused: ' + item.refused)));
	check('head cells have a scope, the table a caption',
		all('thead th[scope=col]').length > 5 &&
		all('tbody th[scope=row]').length === rows.length &&
		all('caption').length === 1);
	const times = shown.map(item =>
		(item.measured || item.predicted).step_time);
	const first = shown[times.indexOf(Math.min(...times))];

	check('the fastest stands first', rows[0].textContent
		.startsWith(first.name), rows[0].textContent);
	press('Bits');
	check('it sorts by another column',
		all('th[aria-sort]').length === 1 &&
		all('th[aria-sort]')[0].textContent === 'Bits');
	press('Step time');
}

/* Rank 0 begins with F of micro-batch 0. */
async function checkHover() {
	const section = all('[data-schedule]')[0];
	const canvas = all('canvas', section)[0];
	const before = all('canvas', section).length;
	const tip = document.getElementById('tip');

	section.scrollIntoView();
	point(canvas, (canvas.clientWidth < 700 ? 57 : 66) /
		canvas.clientWidth, 24);
	await frames();
	check('hovering names the action and its times',
		tip.querySelector('b').textContent ===
			'rank 0: F of micro-batch 0 on stage 0' &&
		/^0(\.0)? to [\d.]+/.test(tip.querySelector('small')
			.textContent) && !tip.hidden,
		tip.textContent);
	check('and marks the micro-batch in both timelines',
		all('canvas', section).length === 2 * before,
		String(all('canvas', section).length));
	canvas.dispatchEvent(new PointerEvent('pointerleave'));
	check('leaving hides it', tip.hidden &&
		all('canvas', section).length === before);
}

async function checkKeys() {
	const canvas = all('figure canvas')[0];
	const spoken = document.getElementById('spoken');
	const key = name => canvas.dispatchEvent(
		new KeyboardEvent('keydown', {key: name}));

	canvas.focus();
	key('ArrowRight');
	const first = spoken.textContent;
	key('ArrowRight');
	const second = spoken.textContent;
	key('ArrowDown');
	check('arrow keys walk from action to action',
		first.startsWith('rank 0: F of micro-batch 0') &&
		second.startsWith('rank 0: ') && second !== first &&
		spoken.textContent.startsWith('rank 1: '),
		[first, second, spoken.textContent].join(' | '));
	key('Escape');
	canvas.blur();
	await settle();
}

async function checkZoom() {
	const canvas = all('figure canvas')[0];
	const whole = picture(canvas);

	press('+');
	await settle();
	const near = picture(canvas);
	press('All');
	await settle();
	check('zooming changes the picture, All brings it back',
		near !== whole && picture(canvas) === whole);
	const slowest = all('figure canvas').pop();
	const shared = [canvas, slowest].map(picture);
	press('Fit each');
	await settle();
	check('the fastest fills its width when each is fitted',
		picture(canvas) !== shared[0]);
	press('Same scale');
	await settle();
	check('and the scale can be shared again',
		[canvas, slowest].map(picture).join() === shared.join());
}

async function checkThemes() {
	const background = () => getComputedStyle(document.body)
		.backgroundColor.match(/\d+/g).slice(0, 3)
		.reduce((sum, part) => sum + Number(part), 0);
	const canvas = all('figure canvas')[0];

	press('Light');
	await settle();
	const light = {page: background(), view: picture(canvas)};
	press('Dark');
	await settle();
	check('light and dark',
		light.page > 600 && background() < 150 &&
		picture(canvas) !== light.view && coloursOf(canvas).size >= 8,
		`${light.page} ${background()}`);
	press('Auto');
	await settle();
}

try {
	await settle();
	checkSections();
	checkTable();
	checkDrawings();
	await checkHover();
	await checkKeys();
	await checkZoom();
	await checkThemes();
	check('the page fits its window', document.documentElement
		.scrollWidth <= window.innerWidth,
		String(document.documentElement.scrollWidth));
	check('the page found no fault in itself',
		!document.getElementById('broken'));
} catch (error) {
	check('the probe went to its end', false, error.stack);
}
const result = document.createElement('pre');

result.id = 'probe';
result.textContent = '\n' + lines.join('\n') + '\n';
document.body.append(result);
})();
