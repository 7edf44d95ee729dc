/*
 * What the scripts of all pages share. Put into each by tools/page.c.
 */

/* element('p', {class: 'a'}, 'text', child...); undefined children: none. */
function element(name, attributes, ...children) {
	const made = document.createElement(name);

	for (const [key, value] of Object.entries(attributes || {}))
		made.setAttribute(key, value);
	made.append(...children.filter(child => child !== undefined));
	return made;
}

function makeSwitch(holder, labels, onChoose) {
	const buttons = Object.entries(labels).map(([value, label]) => {
		const button = element('button', {type: 'button'}, label);

		button.addEventListener('click', () => onChoose(value));
		button.value = value;
		return button;
	});

	holder.append(...buttons);
	return chosen => buttons.forEach(button => button.setAttribute(
		'aria-pressed', button.value === chosen));
}

/*
 * The choice of colours, in `holder`: as the system has them, light or dark.
 * onChange() is called at once and after every change. Returns a function that
 * applies the choice anew; with true, light, for paper.
 */
function makeThemes(holder, onChange) {
	const system = window.matchMedia('(prefers-color-scheme: dark)');
	let theme = 'auto';

	/* A browser may deny storage to a page from a file. */
	function remembered(value) {
		try {
			if (value)
				localStorage.setItem('stagecoach-theme', value);
			return localStorage.getItem('stagecoach-theme');
		} catch (error) {
			return null;
		}
	}

	function apply(printing) {
		const dark = printing !== true &&
			(theme === 'auto' ? system.matches : theme === 'dark');

		document.documentElement.dataset.theme = dark ? 'dark' : 'light';
		onChange();
	}

	const mark = makeSwitch(holder,
		{auto: 'Auto', light: 'Light', dark: 'Dark'}, value => {
			theme = value;
			mark(value);
			remembered(value);
			apply();
		});
	const before = remembered();

	theme = ['light', 'dark'].includes(before) ? before : 'auto';
	mark(theme);
	system.addEventListener('change', () => apply());
	apply();
	return apply;
}
