local PROFILE = 'profile'
