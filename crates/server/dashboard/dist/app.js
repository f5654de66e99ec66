document.getElementById('app').textContent = 'Sidestream';
